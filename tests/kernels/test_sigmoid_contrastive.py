"""The sigmoid contrast's formula and options, on the torch path and in Triton."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from issl_kernels import kernel_path, sigmoid_contrastive
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference

from .conftest import DEVICE

V, G, B, D = 3, 2, 7, 5
LABELS = (0, 1, 0, 2, 1, 0, 3)


@pytest.fixture(params=["chunked", "triton"])
def path(request: pytest.FixtureRequest, small_triton_blocks: None) -> Iterator[str]:
    with kernel_path(request.param):
        yield request.param


def rows(views: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(views, B, D, dtype=torch.float64, generator=generator).to(DEVICE, dtype)


def number(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=DEVICE)


def test_the_reference_is_siglips_formula() -> None:
    """Algorithm 1 of Zhai et al. 2023, in loops."""
    images, texts, total = rows(1), rows(1, seed=1), 0.0
    for i in range(B):
        for j in range(B):
            logit = 0.7 * float(images[0, i] @ texts[0, j]) - 0.4
            total += math.log1p(math.exp(-logit if i == j else logit))
    found = sigmoid_contrastive_reference(images, texts, scale=0.7, bias=-0.4, keep_self=True)
    assert float(found) == pytest.approx(total / B, rel=1e-12)


def everything(function: Any, labels: Tensor | None, keep_self: bool) -> list[Tensor]:
    """Loss, and gradients of anchors, targets, scale and bias."""
    leaves = [x.requires_grad_() for x in (rows(V), rows(G, seed=1), number(1.3), number(-0.6))]
    anchors, targets, scale, bias = leaves
    loss = function(anchors, targets, scale=scale, bias=bias, keep_self=keep_self, labels_B=labels)
    (loss * -1.3).backward()
    assert all(x.grad is not None for x in leaves)
    return [loss.detach(), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("keep_self", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_gradients_reach_anchors_targets_scale_and_bias(path: str, keep_self: bool, labelled: bool) -> None:
    labels = torch.tensor(LABELS, device=DEVICE) if labelled else None
    found = everything(sigmoid_contrastive, labels, keep_self)
    for a, b in zip(found, everything(sigmoid_contrastive_reference, labels, keep_self), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_gradients_of_the_reference_are_those_of_finite_differences() -> None:
    leaves = [x.requires_grad_() for x in (rows(V), rows(G, seed=1), number(1.3), number(-0.6))]
    assert torch.autograd.gradcheck(
        lambda a, b, scale, bias: sigmoid_contrastive_reference(a, b, scale=scale, bias=bias, keep_self=False), leaves
    )


def test_scale_and_bias_keep_dtype_and_shape(path: str) -> None:
    scale, bias = (torch.full((1,), x, dtype=torch.float32, device=DEVICE, requires_grad=True) for x in (2.0, -1.0))
    anchors, targets = rows(V, dtype=torch.float16), rows(G, dtype=torch.float16)
    sigmoid_contrastive(anchors, targets, scale=scale, bias=bias, keep_self=True).backward()
    for parameter in (scale, bias):
        assert parameter.grad is not None
        assert parameter.grad.shape == (1,)
        assert parameter.grad.dtype == torch.float32


def test_thousands_of_tiny_losses_add_up(path: str) -> None:
    """exp(−20) is below a unit in the last place of 1 + exp(−20) in fp32, and all of them together are the loss."""
    orthogonal = torch.zeros(1, B, D, device=DEVICE)
    found = sigmoid_contrastive(orthogonal, orthogonal, scale=1.0, bias=-20.0, keep_self=False)
    assert float(found) == pytest.approx((B - 1) * math.exp(-20), rel=1e-5)


def test_rows_are_divided_by_their_length_on_request(path: str) -> None:
    anchors, targets = rows(V), rows(G, seed=1)
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (anchors, targets)]
    settings: dict[str, Any] = {"scale": 4.0, "bias": -2.0, "keep_self": True}
    found = sigmoid_contrastive(anchors * 7, targets / 3, normalize=True, **settings)
    assert float(found) == pytest.approx(float(sigmoid_contrastive(*unit, **settings)), rel=1e-10)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scale": 0.0}, "scale must be positive and finite, not 0.0"),
        ({"scale": torch.ones(2)}, r"scale must be a number or .* not one of shape \(2,\)"),
        ({"bias": float("nan")}, "bias must be finite, not nan"),
        ({"bias": torch.zeros(2)}, r"bias must be a number or .* not one of shape \(2,\)"),
        ({"labels_B": torch.zeros(4, dtype=torch.int64)}, r"labels_B .* shape \(3,\), not .*\(4,\)"),
        ({"exchange": "tree"}, "exchange is 'tree'; it must be gather or ring"),
        ({"targets_GBD": torch.randn(2, 3, 5)}, r"\(2, 3, 4\) and \(2, 3, 5\)"),
        ({"targets_GBD": torch.randn(3, 3, 4)}, "targets_GBD has more views than anchors_VBD"),
    ],
)
def test_the_argument_is_named(settings: dict[str, Any], sentence: str) -> None:
    rows_VBD = torch.randn(2, 3, 4)
    arguments: dict[str, Any] = {"targets_GBD": rows_VBD, "scale": 10.0, "bias": -10.0, "keep_self": True} | settings
    with pytest.raises(ValueError, match=sentence):
        sigmoid_contrastive(rows_VBD, **arguments)
