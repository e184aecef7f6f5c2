"""What a path of the sigmoid contrast does with this rank's anchors and a block of targets.

Letters: V views of the anchors, B images of this rank.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from issl_kernels.info_nce.contrast import Rows


class Losses(Protocol):
    """Of all this rank's anchors with one block of targets."""

    def __call__(self, anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> Tensor:
        """[2, V · B]: Σ over targets of each anchor's losses, and of their slopes by the logit."""


class SigmoidGradients(Protocol):
    """As ``info_nce.contrast.Gradients``."""

    def __call__(
        self, anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool
    ) -> tuple[Tensor, Tensor]: ...


class SigmoidContrast(NamedTuple):
    """A path: the logits are anchors · targets · scale + bias (tensors of one element)."""

    losses: Losses
    gradients: SigmoidGradients
