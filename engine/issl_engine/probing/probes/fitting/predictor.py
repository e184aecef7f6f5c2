"""Predictors that were fitted together, one a point of a grid.

Letters: S points, G groups of points that see the features normalised in the same way, C classes or T outputs, D width,
B images of a block.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Predictor(ABC):
    """S predictors of one kind."""

    @abstractmethod
    def predict(self, x_BD: Tensor) -> Tensor:
        """Of features float32 [b, d]: classes int64 [s, b] (-1 for none), or outputs float32 [s, b, t]."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that predictions depend on."""


@dataclass(frozen=True, kw_only=True)
class LinearOutputs(Predictor):
    """x -> weights (x * scale + offset) + bias."""

    weights_SCD: Tensor
    bias_SC: Tensor
    scale_G1D: Tensor
    offset_G1D: Tensor
    """Points of a group lie together, and groups are equally large."""

    def predict(self, x_BD: Tensor) -> Tensor:
        return self.outputs(x_BD).transpose(1, 2)

    def classifier(self) -> "LinearClassifier":
        """The same weights, to tell classes."""
        return LinearClassifier(**vars(self))

    def outputs(self, x_BD: Tensor) -> Tensor:
        """[s, c, b]."""
        rows_GBD = torch.addcmul(self.offset_G1D, x_BD, self.scale_G1D)
        return grouped_outputs(self.weights_SCD, self.bias_SC, rows_GBD)

    def state(self) -> dict[str, Tensor]:
        return {
            "weights": self.weights_SCD, "bias": self.bias_SC, "scale": self.scale_G1D, "offset": self.offset_G1D,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LinearClassifier(LinearOutputs):
    """The class of the largest output; weights that overflowed know none."""

    def predict(self, x_BD: Tensor) -> Tensor:
        finite_S1 = self.weights_SCD.isfinite().flatten(1).all(1)[:, None]
        return torch.where(finite_S1, self.outputs(x_BD).argmax(1), -1)


def grouped_outputs(weights_SCD: Tensor, bias_SC: Tensor, rows_GBD: Tensor) -> Tensor:
    """[s, c, b]: each group's weights on that group's rows, one batched matmul."""
    S, C, D = weights_SCD.shape
    G, B, _ = rows_GBD.shape
    product = torch.bmm(weights_SCD.view(G, -1, D), rows_GBD.transpose(1, 2))
    return product.view(S, C, B).add_(bias_SC[..., None])
