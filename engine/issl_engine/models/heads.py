"""Heads between a representation and a loss: linear ones, as a linear probe is, and MLPs.

Letters: R rows (every view of every image of this rank), D width in, H width out. Every head takes [..., D]
and gives [..., H]; batch-norm sees all rows together, whatever view they are of.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from issl_kernels.precision import arithmetic_dtype

Activation = Literal["relu", "gelu"]
LinearInit = Literal["linear", "johnson_lindenstrauss"]
"""How layers that have fewer outputs than inputs start: as torch's linear layers do, or as ``init_projections``."""

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

    A linear layer that batch-norm follows has no bias; ``bias_out`` is the last layer's. ``scale_out`` off leaves the
    gain and bias out of the batch-norm at the end, so that its outputs have mean 0 and variance 1.
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
        scale_out: bool = True,
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
        layers += _output_layers(hidden_dim, out_dim, bottleneck_dim, batch_norm_out, bias=bias_out, scale=scale_out)
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Rows [R, D] plus what linear layers D → hidden (``hidden_layers`` of them) → D make of them.

    Batch-norm and ReLU follow every linear layer, the last one too, and none has a bias.
    """

    def __init__(self, dim: int, *, hidden_dim: int, hidden_layers: int) -> None:
        super().__init__()
        widths = [dim, *[hidden_dim] * hidden_layers, dim]
        self.layers = nn.Sequential(*(layer for pair in pairwise(widths) for layer in _activated_linear(*pair)))

    def forward(self, x_RD: Tensor) -> Tensor:
        made_RD: Tensor = self.layers(x_RD)
        return x_RD + made_RD


class ResidualHead(Head):
    """A residual block and a bottleneck (linear, batch-norm, ReLU), in this order or with ``block_first`` off in the
    other, then a linear layer with bias.

    The teacher's heads of the published ImageNet runs of DISSL (Dubois et al. 2022, their program): the block first for
    a representation of 2048, the bottleneck first for one that was expanded to 8192.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        hidden_dim: int,
        hidden_layers: int,
        bottleneck_dim: int,
        block_first: bool,
    ) -> None:
        block = ResidualBlock(
            in_dim if block_first else bottleneck_dim, hidden_dim=hidden_dim, hidden_layers=hidden_layers
        )  # fmt: skip
        bottleneck = _activated_linear(in_dim, bottleneck_dim)
        layers = [block, *bottleneck] if block_first else [*bottleneck, block]
        super().__init__(*layers, nn.Linear(bottleneck_dim, out_dim))


def init_projections(head: nn.Module) -> None:
    """Starts every linear layer that has fewer outputs than inputs as a random projection, normal with variance one
    over its outputs, which keeps distances on average (Johnson and Lindenstrauss 1984)."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear) and layer.out_features < layer.in_features:
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.out_features))


def _output_layers(
    in_dim: int, out_dim: int, bottleneck_dim: int | None, batch_norm_out: bool, *, bias: bool, scale: bool = True
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    if bottleneck_dim is not None:
        layers += [nn.Linear(in_dim, bottleneck_dim, bias=False), nn.BatchNorm1d(bottleneck_dim)]
        in_dim = bottleneck_dim
    layers.append(nn.Linear(in_dim, out_dim, bias=bias and not batch_norm_out))
    if batch_norm_out:
        layers.append(nn.BatchNorm1d(out_dim, affine=scale))
    return layers


def _activated_linear(in_dim: int, out_dim: int) -> list[nn.Module]:
    return [nn.Linear(in_dim, out_dim, bias=False), nn.BatchNorm1d(out_dim), nn.ReLU()]
