"""The memory-lean path against the specification: values, gradients, peaked inputs, dtypes, memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from issl_kernels import cross_correlation, distillation, info_nce, sinkhorn, soft_cross_entropy
from issl_kernels.cross_correlation import chunked as correlation_module
from issl_kernels.cross_correlation.reference import cross_correlation_reference
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import chunked as nce_module
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.sinkhorn import chunked as sinkhorn_module
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy import chunked as entropy_module
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference

Loss = Callable[..., Tensor]
DISSL = {"teacher_temperature": 0.5, "student_temperature": 0.9, "entropy_weight": 2.3, "invariance_weight": 0.8}


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def targets_for(G: int, B: int, C: int) -> Tensor:
    return normal(G, B, C, seed=9, scale=3).softmax(-1)


def case(name: str, B: int, scale: float) -> tuple[Loss, Loss, list[Tensor]]:
    """(ours, reference, inputs) for one operation; sizes are ragged on purpose."""
    if name.startswith("info_nce"):
        V, G, keep = {"info_nce_simclr": (2, 2, False), "info_nce_multicrop": (5, 2, False)}.get(name, (5, 2, True))
        inputs = [normal(V, B, 7, scale=scale), normal(G, B, 7, seed=1, scale=scale)]
        return (
            lambda a, b: info_nce(a, b, temperature=0.2, keep_self=keep),
            lambda a, b: info_nce_reference(a, b, temperature=0.2, keep_self=keep),
            inputs,
        )
    if name.startswith("distillation"):
        V, G = {"distillation": (2, 2), "distillation_multicrop": (6, 2), "distillation_one_teacher": (3, 1)}[name]
        inputs = [normal(G, B, 13, scale=scale), normal(V, B, 13, seed=1, scale=scale)]
        return (
            lambda a, b: distillation(a, b, **DISSL)[0],
            lambda a, b: distillation_reference(a, b, **DISSL)[0],
            inputs,
        )
    if name.startswith("soft"):
        skip = name.endswith("skip")
        t = targets_for(2, B, 13)
        return (
            lambda x: soft_cross_entropy(x, t.to(x.dtype), temperature=0.2, skip_same_view=skip),
            lambda x: soft_cross_entropy_reference(x, t.to(x.dtype), temperature=0.2, skip_same_view=skip),
            [normal(5, B, 13, scale=scale)],
        )
    inputs = [normal(B + 2, 11, scale=scale), normal(B + 2, 11, seed=1, scale=scale)]
    return (
        lambda a, b: cross_correlation(a, b, off_diagonal_weight=0.01),
        lambda a, b: cross_correlation_reference(a, b, off_diagonal_weight=0.01),
        inputs,
    )


NAMES = [
    "info_nce_simclr", "info_nce_multicrop", "info_nce_cissl", "distillation", "distillation_multicrop",
    "distillation_one_teacher", "soft_skip", "soft_all", "cross_correlation",
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks even at test sizes, the last of them ragged."""
    monkeypatch.setattr(nce_module, "BLOCK_ELEMENTS", 100)
    monkeypatch.setattr(entropy_module, "BLOCK_ELEMENTS", 40)
    monkeypatch.setattr(sinkhorn_module, "BLOCK_ELEMENTS", 50)
    monkeypatch.setattr(correlation_module, "BLOCK_ELEMENTS", 40)


def value_and_gradients(loss: Loss, inputs: list[Tensor], upstream: float) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    (value * upstream).backward()
    return [value.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("scale", [1.0, 12.0], ids=["flat", "peaked"])
@pytest.mark.parametrize("B", [1, 2, 8, 17])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference_in_fp64(name: str, B: int, scale: float) -> None:
    ours, reference, inputs = case(name, B, scale)
    found, expected = (value_and_gradients(loss, inputs, -1.7) for loss in (ours, reference))
    assert len(found) == len(inputs) + 1
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10), (a - b).abs().max()


@pytest.mark.parametrize("scale", [1.0, 12.0], ids=["flat", "peaked"])
@pytest.mark.parametrize("name", NAMES)
def test_fp32_is_as_accurate_as_the_eager_path(name: str, scale: float) -> None:
    ours, reference, inputs = case(name, 17, scale)
    narrow = [x.float() for x in inputs]
    exact = value_and_gradients(reference, [x.double() for x in narrow], 0.6)
    eager = value_and_gradients(reference, narrow, 0.6)
    for found, floor, truth in zip(value_and_gradients(ours, narrow, 0.6), eager, exact, strict=True):
        assert (found - truth).abs().max() <= 2 * (floor - truth).abs().max() + 1e-6 * max(10, truth.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str) -> None:
    ours, _, inputs = case(name, 4, 1.0)
    assert torch.autograd.gradcheck(ours, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_inputs_are_summed_in_fp32(name: str, dtype: torch.dtype) -> None:
    ours, reference, inputs = case(name, 17, 1.0)
    half = [x.to(dtype) for x in inputs]
    found = value_and_gradients(ours, half, 1.0)
    exact = value_and_gradients(reference, [x.double() for x in half], 1.0)
    assert found[0].dtype == torch.float32
    assert float(found[0]) == pytest.approx(float(exact[0]), rel=1e-2 if name.startswith("soft") else 1e-4)
    for gradient, truth in zip(found[1:], exact[1:], strict=True):
        assert gradient.dtype == dtype
        assert (gradient.double() - truth).abs().max() <= 0.02 * truth.abs().max() + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_strided_inputs_give_the_same(name: str) -> None:
    ours, _, inputs = case(name, 8, 1.0)
    strided = [torch.stack([x, x + 1], dim=-1)[..., 0] for x in inputs]
    assert not strided[0].is_contiguous()
    for a, b in zip(value_and_gradients(ours, inputs, 1.0), value_and_gradients(ours, strided, 1.0), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_the_arithmetic(name: str) -> None:
    ours, _, inputs = case(name, 8, 1.0)
    narrow = [x.float() for x in inputs]
    plain = value_and_gradients(ours, narrow, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = value_and_gradients(ours, narrow, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_equals_the_reference(iterations: int) -> None:
    scores = normal(23, 7)
    found = sinkhorn(scores, epsilon=0.3, iterations=iterations)
    assert torch.allclose(found, sinkhorn_reference(scores, epsilon=0.3, iterations=iterations), rtol=1e-10)


def test_sinkhorn_survives_scores_that_overflow_an_exponential() -> None:
    scores = normal(23, 7, scale=1e4).float()
    assignments = sinkhorn(scores, epsilon=0.01, iterations=3)
    assert assignments.isfinite().all()
    assert torch.allclose(assignments.sum(1), torch.ones(23))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_stay_finite(name: str) -> None:
    ours, _, inputs = case(name, 8, 3000.0)
    for tensor in value_and_gradients(ours, [x.float() for x in inputs], 1.0):
        assert tensor.isfinite().all()


def test_identical_rows_give_log_of_their_number() -> None:
    same = torch.ones(2, 6, 4)
    loss = info_nce(same, same, temperature=0.01, keep_self=True)
    assert float(loss) == pytest.approx(torch.tensor(12.0).log().item(), abs=1e-4)


def test_one_class_taking_all_mass_has_zero_entropy() -> None:
    logits = torch.zeros(2, 6, 5)
    logits[..., 3] = 1e4
    loss, terms = distillation(logits.requires_grad_(), logits.detach(), **DISSL)
    loss.backward()
    assert float(terms.marginal_entropy) == pytest.approx(0, abs=1e-6)
    assert float(terms.classes_used) == 1
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


class LargestTemporary(TorchDispatchMode):
    """Elements of the largest fp32 tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32 and tensor._base is None:
                self.elements = max(self.elements, tensor.numel())
        return out


def test_info_nce_never_holds_rows_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nce_module, "BLOCK_ELEMENTS", 4096)
    rows = torch.randn(2, 256, 8, requires_grad=True)
    with LargestTemporary() as watch:
        info_nce(rows, rows, temperature=0.1, keep_self=False).backward()
    assert watch.elements <= 4096 < 512 * 512


def test_distillation_holds_no_logits_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy_module, "BLOCK_ELEMENTS", 2048)
    teacher = torch.randn(2, 64, 128).bfloat16().requires_grad_()
    student = torch.randn(6, 64, 128).bfloat16().requires_grad_()
    with LargestTemporary() as watch:
        distillation(teacher, student, **DISSL)[0].backward()
    assert watch.elements <= 2 * 2048 < 6 * 64 * 128
