"""Heads between a representation and a loss: linear ones, as a linear probe is, and MLPs.

Letters: R rows (every view of every image of this rank), D width in, H width out. Every head takes [..., D]
and gives [..., H]; batch-norm sees all rows together, whatever view they are of.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from issl_kernels.precision import arithmetic_dtype

Activation = Literal["relu", "gelu"]

_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def l2_normalize(x: Tensor) -> Tensor:
    """Rows [..., D] divided by their norm, in fp32 (fp64 for fp64) whatever precision the head ran in."""
    return F.normalize(x.to(arithmetic_dtype(x)), dim=-1)


class Head(nn.Module):
    """Runs ``layers``, which see a matrix [R, D], on a tensor with any number of axes in front."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.unflatten(self.layers(x.flatten(0, -2)), 0, x.shape[:-1])

    def before_last(self, x: Tensor) -> tuple[Tensor, nn.Linear]:
        """(what the last linear layer takes [..., W], that layer), for losses that contain its product."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear), type(last)
        return self.layers[:-1](x.flatten(0, -2)).unflatten(0, x.shape[:-1]), last


class LinearHead(Head):
    """A map with no non-linearity: what a linear probe computes.

    ``bottleneck_dim`` factors it through fewer dimensions, with batch-norm between the factors;
    ``batch_norm_out`` puts batch-norm at its end (and drops the bias, which it would cancel).
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, bottleneck_dim: int | None = None, batch_norm_out: bool = False
    ) -> None:
        super().__init__(*_output_layers(in_dim, out_dim, bottleneck_dim, batch_norm_out, bias=True))


class MLPHead(Head):
    """``hidden_layers`` times linear, batch-norm (unless ``batch_norm`` is off), activation; then as
    LinearHead.

    A linear layer that batch-norm follows has no bias; ``bias_out`` is the last layer's.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        hidden_dim: int,
        hidden_layers: int = 1,
        bottleneck_dim: int | None = None,
        batch_norm: bool = True,
        batch_norm_out: bool = False,
        bias_out: bool = True,
        activation: Activation = "relu",
    ) -> None:
        assert hidden_layers >= 1
        layers: list[nn.Module] = []
        for width in [in_dim] + [hidden_dim] * (hidden_layers - 1):
            layers.append(nn.Linear(width, hidden_dim, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(hidden_dim))
            layers.append(_ACTIVATIONS[activation]())
        layers += _output_layers(hidden_dim, out_dim, bottleneck_dim, batch_norm_out, bias=bias_out)
        super().__init__(*layers)


class ResidualHead(nn.Module):
    """D → bottleneck, plus (bottleneck → hidden → hidden → bottleneck) of it, → H.

    Batch-norm and ReLU stand before every linear layer but the first, and no layer has a bias: the teacher's
    head of the published ImageNet runs with an expanded representation (Dubois et al. 2022).
    """

    def __init__(self, in_dim: int, out_dim: int, *, hidden_dim: int, bottleneck_dim: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(in_dim, bottleneck_dim, bias=False)
        self.block = nn.Sequential(
            *_activated_linear(bottleneck_dim, hidden_dim),
            *_activated_linear(hidden_dim, hidden_dim),
            *_activated_linear(hidden_dim, bottleneck_dim),
        )
        self.output = nn.Sequential(*_activated_linear(bottleneck_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x.flatten(0, -2))
        return torch.unflatten(self.output(reduced + self.block(reduced)), 0, x.shape[:-1])

    def before_last(self, x: Tensor) -> tuple[Tensor, nn.Linear]:
        """As Head.before_last."""
        last = self.output[-1]
        assert isinstance(last, nn.Linear), type(last)
        reduced = self.reduce(x.flatten(0, -2))
        return self.output[:-1](reduced + self.block(reduced)).unflatten(0, x.shape[:-1]), last


def _output_layers(
    in_dim: int, out_dim: int, bottleneck_dim: int | None, batch_norm_out: bool, *, bias: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    if bottleneck_dim is not None:
        layers += [nn.Linear(in_dim, bottleneck_dim, bias=False), nn.BatchNorm1d(bottleneck_dim)]
        in_dim = bottleneck_dim
    layers.append(nn.Linear(in_dim, out_dim, bias=bias and not batch_norm_out))
    if batch_norm_out:
        layers.append(nn.BatchNorm1d(out_dim))
    return layers


def _activated_linear(in_dim: int, out_dim: int) -> list[nn.Module]:
    return [nn.BatchNorm1d(in_dim), nn.ReLU(), nn.Linear(in_dim, out_dim, bias=False)]
