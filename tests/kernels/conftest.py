"""What the kernels' tests share: the operations with their cases, values with gradients, and the bound of an error."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import issl_kernels
from issl_kernels.case import Case
from issl_kernels.distillation import triton_ops as distillation_ops
from issl_kernels.info_nce import triton_ops as nce_ops
from issl_kernels.sinkhorn import triton_ops as sinkhorn_ops
from issl_kernels.soft_cross_entropy import triton_ops as soft_ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where Triton kernels run in the tests: compiled on a GPU, interpreted on a CPU."""

STEEP = ("peaked", "agreement", "cold", "10_000", "large", "constant")
"""Names of cases whose slopes change too fast, or are too small, for finite differences or half precision."""


class Operation(NamedTuple):
    name: str
    reference: Callable[..., Any]
    case: Case

    @property
    def ours(self) -> Callable[..., Any]:
        function = getattr(issl_kernels, self.name)
        assert callable(function)
        return function

    @property
    def is_steep(self) -> bool:
        return any(word in self.case.name for word in STEEP)


def label(operation: Operation) -> str:
    return f"{operation.name}-{operation.case.name}"


def value_and_gradients(
    operation: Operation, function: Callable[..., Any], inputs: tuple[Tensor, ...], upstream: float
) -> list[Tensor]:
    """The value, then the gradient of each input that takes one."""
    count = operation.case.differentiable_inputs
    leaves = [x.detach().requires_grad_(i < count) for i, x in enumerate(inputs)]
    value = operation.case.call(function, *leaves)
    if count:
        (value * upstream).backward()
    gradients = [leaf.grad for leaf in leaves[:count]]
    assert all(gradient is not None for gradient in gradients)
    return [value.detach(), *(gradient for gradient in gradients if gradient is not None)]


def bound(floor: Tensor, truth: Tensor) -> float:
    """Twice the eager path's own error, and a few units in the last place of a large value."""
    largest = float(truth.abs().max())
    return 2 * float((floor - truth).abs().max()) + 1e-5 + 2 * torch.finfo(torch.float32).eps * largest


@pytest.fixture
def small_triton_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs along every axis even at test sizes, the last of them ragged."""
    for module, sizes in (
        (distillation_ops, {"STATISTICS_BLOCK": 8, "GRADIENT_BLOCK": 16, "TILE_BLOCK": 16, "FINISH_BLOCK": 8,
                            "IMAGES_PER_CHUNK": 8}),
        (soft_ops, {"BLOCK": 8}),
        (sinkhorn_ops, {"BLOCK": 8, "MOST_ROWS": 4, "SHARES_AT_ONCE": 2}),
    ):  # fmt: skip
        for name, size in sizes.items():
            assert isinstance(getattr(module, name), int)
            monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(nce_ops, "PROGRAMS", 26)
    if DEVICE == "cpu":  # matrix instructions take 16 rows and columns at least; the interpreter takes any number
        tiles = nce_ops.Tiles(8, 16, 8, 8, 1, 1)
        monkeypatch.setattr(nce_ops, "LEAST_WIDTH", 4)
        monkeypatch.setattr(nce_ops, "statistics_tiles", lambda dtype, D: tiles._replace(targets=8))
        monkeypatch.setattr(nce_ops, "_gradient_tiles", lambda dtype, D: tiles)
