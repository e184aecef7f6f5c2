"""What defines one soft cross-entropy, as its paths hand it on."""

from typing import NamedTuple

from torch import Tensor

from issl_kernels.view_pairs import num_pairs


class Settings(NamedTuple):
    temperature: float
    skip_same_view: bool

    def num_terms(self, student_VBC: Tensor, targets_GBC: Tensor) -> int:
        """What the loss is a mean over: images times pairs of views."""
        V, B = student_VBC.shape[:2]
        return num_pairs(V, targets_GBC.shape[0], self.skip_same_view) * B
