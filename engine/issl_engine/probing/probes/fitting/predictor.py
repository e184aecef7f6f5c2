"""Predictors that were fitted together, one a point of a grid.

Letters: S points, G groups of points that see the features normalised in the same way, C classes or T outputs, D width,
B images of a block.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.penalty_path import Path


class Predictor(ABC):
    """S predictors of one kind."""

    @abstractmethod
    def predict(self, x_BD: Tensor) -> Tensor:
        """Of features float32 [b, d]: classes int64 [s, b] (-1 for none), or outputs float32 [s, b, t]."""

    def ranked(self, x_BD: Tensor, count: int) -> Tensor:
        """Of features float32 [b, d]: the ``count`` likeliest classes, the likeliest first, int64 [s, b, k] (-1 for
        none); fewer where there are fewer classes."""
        raise AssertionError(f"{type(self).__name__} ranks no classes")

    @property
    def gaps(self) -> tuple[float, ...] | None:
        """Nats that the fit of each point may be above its optimum; None where there is no bound."""
        return None

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
    gaps_S: tuple[float, ...] | None = None

    @classmethod
    def of_paths(cls, paths: Sequence[Path]) -> Self:
        """One group for each path."""
        return cls(
            weights_SCD=torch.cat([path.weights_SKD for path in paths]),
            bias_SC=torch.cat([path.bias_SK for path in paths]),
            scale_G1D=torch.stack([path.scale_D for path in paths])[:, None],
            offset_G1D=torch.stack([path.offset_D for path in paths])[:, None],
            gaps_S=tuple(gap for path in paths for gap in path.gaps_S),
        )

    @property
    def gaps(self) -> tuple[float, ...] | None:
        return self.gaps_S

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
        return torch.where(self._finite_S1, self.outputs(x_BD).argmax(1), -1)

    def ranked(self, x_BD: Tensor, count: int) -> Tensor:
        classes_SBK = likeliest(super().predict(x_BD), count)
        return torch.where(self._finite_S1[..., None], classes_SBK, -1)

    @property
    def _finite_S1(self) -> Tensor:
        return self.weights_SCD.isfinite().flatten(1).all(1)[:, None]


def likeliest(outputs_SBC: Tensor, count: int) -> Tensor:
    """The classes of the ``count`` largest outputs, int64 [s, b, k]; -1 where an output is minus infinity."""
    values_SBK, classes_SBK = outputs_SBC.topk(min(count, outputs_SBC.shape[-1]), dim=-1)
    return classes_SBK.masked_fill(values_SBK == -torch.inf, -1)


def grouped_outputs(weights_SCD: Tensor, bias_SC: Tensor, rows_GBD: Tensor) -> Tensor:
    """[s, c, b]: each group's weights on that group's rows, one batched matmul."""
    S, C, D = weights_SCD.shape
    G, B, _ = rows_GBD.shape
    product = torch.bmm(weights_SCD.view(G, -1, D), rows_GBD.transpose(1, 2))
    return product.view(S, C, B).add_(bias_SC[..., None])
