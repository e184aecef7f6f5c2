"""Targets that a teacher's last linear layer gives, made a block of images at a time."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class LinearTeacher(NamedTuple):
    """Targets softmax((features · weightᵀ + bias − centre) / temperature); no gradient flows into them."""

    features_GBH: Tensor
    weight_CH: Tensor
    bias_C: Tensor | None
    temperature: float
    centre_C: Tensor | None = None
    """DINO's running mean of the teacher's logits."""

    def targets(self, logits_GbC: Tensor, like: Tensor) -> Tensor:
        """[G, b, C] from the layer's output, in the dtype of ``like``."""
        wide_GbC = logits_GbC.to(like.dtype)
        centred_GbC = wide_GbC if self.centre_C is None else wide_GbC - self.centre_C.to(like.dtype)
        return F.softmax(centred_GbC / self.temperature, -1)
