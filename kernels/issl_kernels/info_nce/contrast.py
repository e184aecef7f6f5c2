"""What a path does with this rank's anchors and a block of targets; the exchange between ranks calls it.

Letters: V views of the anchors, G of the targets, B images of this rank, N images of the block of targets, D width.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from issl_kernels.info_nce.statistics import RowStatistics


class Rows(NamedTuple):
    """Anchors or targets with their place in the global batch."""

    rows: Tensor
    """[V, B, D] or [G, N, D]."""
    labels: Tensor | None
    """[B] or [N]: positives have the same; None: positives are of the same image."""
    first_image: int
    """Number of the first image in the global batch."""


class Gradients(Protocol):
    """Of all this rank's anchors and one block of targets."""

    def __call__(self, anchors: Rows, targets: Rows) -> tuple[Tensor, Tensor]:
        """Σ_targets d_l · b [V, B, D] and Σ_anchors d_l · a [G, N, D] in the arithmetic dtype, where d_l is the slope
        of the sum of all rows' losses by a logit."""


class Statistics(Protocol):
    """Of each anchor's row [V · B]."""

    def __call__(self, anchors: Rows, targets: Rows, inverse_temperature: Tensor, keep_self: bool) -> RowStatistics: ...


class StatisticsGradients(Protocol):
    """As ``Gradients``, from RowStatistics.for_gradients over all targets."""

    def __call__(
        self,
        anchors: Rows,
        targets: Rows,
        inverse_temperature: Tensor,
        keep_self: bool,
        statistics: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]: ...


class Contrast(NamedTuple):
    """A path of InfoNCE: the logits are anchors · targets · inverse_temperature (a tensor of one element)."""

    statistics: Statistics
    gradients: StatisticsGradients
