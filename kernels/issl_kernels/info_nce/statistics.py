"""What InfoNCE keeps of a row of logits, and how rows that were seen in parts are joined.

Letters: R anchors of this rank.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class RowStatistics(NamedTuple):
    """Of each anchor's logits l over the targets at hand, all [R]. Distances from the maximum are kept, not the logits:
    they keep their digits where all logits share a large offset."""

    maximum: Tensor
    """m; −inf where no target was allowed."""
    exponentials: Tensor
    """Σ exp(l − m)."""
    num_positives: Tensor
    """Number of positives."""
    gap: Tensor
    """Σ over positives (m − l)."""
    least_gap: Tensor
    """Least m − l over positives, inf without any."""

    def join(self, other: "RowStatistics") -> "RowStatistics":
        """Over the targets of both."""
        maximum = torch.maximum(self.maximum, other.maximum)
        level = maximum.masked_fill(maximum == -torch.inf, 0)
        rises = [torch.where(part.maximum == -torch.inf, 0, level - part.maximum) for part in (self, other)]
        exponentials, gap = (
            sum(values, torch.zeros_like(maximum))
            for values in (
                [part.exponentials * torch.exp(-rise) for part, rise in zip((self, other), rises, strict=True)],
                [part.gap + part.num_positives * rise for part, rise in zip((self, other), rises, strict=True)],
            )
        )
        least_gap = torch.minimum(self.least_gap + rises[0], other.least_gap + rises[1])
        return RowStatistics(maximum, exponentials, self.num_positives + other.num_positives, gap, least_gap)

    def losses(self) -> Tensor:
        """log Σ exp l − mean over positives of l; zero without a positive."""
        losses = self.exponentials.log() + self.gap / self.num_positives
        return torch.where(self.num_positives > 0, losses, 0)

    def for_gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """(maximum, 1 / Σ exp, 1 / number of positives); zeros where there is no positive, so no gradient."""
        has_positive = self.num_positives > 0
        return (
            torch.where(has_positive, self.maximum, 0),
            torch.where(has_positive, 1 / self.exponentials, 0),
            torch.where(has_positive, 1 / self.num_positives, 0),
        )
