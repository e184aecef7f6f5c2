"""The memory-lean path against the specification: values, gradients, peaked inputs, dtypes, strides, autocast."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from issl_kernels import distillation, info_nce, sinkhorn, soft_cross_entropy, view_pairs
from issl_kernels.cross_correlation import cases as correlation_cases
from issl_kernels.cross_correlation import chunked as correlation_module
from issl_kernels.cross_correlation.reference import cross_correlation_reference
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import cases as nce_cases
from issl_kernels.info_nce import chunked as nce_module
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.sigmoid_contrastive import cases as sigmoid_cases
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.sinkhorn import chunked as sinkhorn_module
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy import cases as soft_cases
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference

from .conftest import Operation, bound, label, value_and_gradients

LOSSES = [
    *(Operation("info_nce", info_nce_reference, case) for case in nce_cases.TEST_CASES),
    *(Operation("sigmoid_contrastive", sigmoid_contrastive_reference, case) for case in sigmoid_cases.TEST_CASES),
    *(Operation("distillation", distillation_reference, case) for case in distillation_cases.TEST_CASES),
    *(Operation("soft_cross_entropy", soft_cross_entropy_reference, case) for case in soft_cases.TEST_CASES),
    *(Operation("cross_correlation", cross_correlation_reference, case) for case in correlation_cases.TEST_CASES),
]
FLAT_LOSSES = [operation for operation in LOSSES if not operation.is_steep]

every_loss = pytest.mark.parametrize("operation", LOSSES, ids=label)
flat_losses = pytest.mark.parametrize("operation", FLAT_LOSSES, ids=label)
every_sinkhorn = pytest.mark.parametrize("case", sinkhorn_cases.TEST_CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks even at test sizes, the last of them ragged."""
    monkeypatch.setattr(nce_module, "BLOCK_ELEMENTS", 100)
    monkeypatch.setattr(view_pairs, "BLOCK_ELEMENTS", 500)
    monkeypatch.setattr(sinkhorn_module, "BLOCK_ELEMENTS", 50)
    monkeypatch.setattr(correlation_module, "BLOCK_ELEMENTS", 40)


@every_loss
def test_equals_the_reference_in_fp64(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64)
    found, expected = (value_and_gradients(operation, f, inputs, -1.7) for f in (operation.ours, operation.reference))
    for a, b in zip(found, expected, strict=True):
        assert a.isfinite().all()
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10 * max(1.0, float(b.abs().max()))), (a - b).abs().max()


@every_loss
@pytest.mark.parametrize("seed", [0, 1])
def test_fp32_is_as_accurate_as_the_eager_path(operation: Operation, seed: int) -> None:
    inputs = operation.case.inputs(torch.float32, seed=seed)
    truths = value_and_gradients(operation, operation.reference, tuple(x.double() for x in inputs), 0.6)
    floors = value_and_gradients(operation, operation.reference, inputs, 0.6)
    found = value_and_gradients(operation, operation.ours, inputs, 0.6)
    for a, floor, truth in zip(found, floors, truths, strict=True):
        assert a.dtype == torch.float32
        assert float((a - truth).abs().max()) <= bound(floor, truth)


@flat_losses
@pytest.mark.parametrize("which", ["ours", "reference"])
def test_gradients_are_those_of_finite_differences(operation: Operation, which: str) -> None:
    inputs = operation.case.inputs(torch.float64)
    leaves = [x.requires_grad_(i < operation.case.differentiable_inputs) for i, x in enumerate(inputs)]
    function = getattr(operation, which)
    assert torch.autograd.gradcheck(lambda *x: operation.case.call(function, *x), leaves, fast_mode=True)


@flat_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_summed_in_fp32(operation: Operation, dtype: torch.dtype) -> None:
    half = operation.case.inputs(dtype)
    found = value_and_gradients(operation, operation.ours, half, 1.0)
    exact = value_and_gradients(operation, operation.reference, tuple(x.double() for x in half), 1.0)
    assert found[0].dtype == torch.float32
    assert float(found[0]) == pytest.approx(float(exact[0]), rel=1e-5, abs=1e-5)
    for gradient, truth in zip(found[1:], exact[1:], strict=True):
        assert gradient.dtype == dtype
        rounding = torch.finfo(dtype).eps * truth.abs().max() + torch.finfo(dtype).smallest_normal
        assert float((gradient.double() - truth).abs().max()) <= rounding + 1e-6


@flat_losses
def test_strided_inputs_give_the_same(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64)
    strided = tuple(torch.stack([x, x + 1], dim=-1)[..., 0] for x in inputs)
    turned = tuple(x.transpose(0, -1).contiguous().transpose(0, -1) for x in inputs)
    plain = value_and_gradients(operation, operation.ours, inputs, 1.0)
    for others in (strided, turned):
        for a, b in zip(plain, value_and_gradients(operation, operation.ours, others, 1.0), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@flat_losses
def test_autocast_does_not_lower_the_arithmetic(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float32)
    plain = value_and_gradients(operation, operation.ours, inputs, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = value_and_gradients(operation, operation.ours, inputs, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@pytest.mark.parametrize("case", distillation_cases.TEST_CASES, ids=lambda case: case.name)
def test_terms_of_distillation_are_those_of_the_reference(case: distillation_cases.DistillationCase) -> None:
    terms: list[dict[str, float]] = []

    def keep(function: Callable[..., tuple[Tensor, NamedTuple]]) -> Callable[..., tuple[Tensor, NamedTuple]]:
        def wrapped(*inputs: Tensor, **settings: float) -> tuple[Tensor, NamedTuple]:
            loss, found = function(*inputs, **settings)
            assert not any(term.requires_grad for term in found)
            terms.append({name: float(value) for name, value in found._asdict().items()})
            return loss, found

        return wrapped

    inputs = tuple(x.requires_grad_() for x in case.inputs(torch.float64))
    for function in (distillation, distillation_reference):
        case.call(keep(function), *inputs)
    assert terms[0] == pytest.approx(terms[1], rel=1e-9, abs=1e-9)


@every_sinkhorn
def test_sinkhorn_equals_the_reference(case: sinkhorn_cases.SinkhornCase) -> None:
    exact = case.inputs(torch.float64)
    assert torch.allclose(case.call(sinkhorn, *exact), case.call(sinkhorn_reference, *exact), rtol=1e-7, atol=1e-12)
    narrow = case.inputs(torch.float32)
    found = case.call(sinkhorn, *narrow)
    truth = case.call(sinkhorn_reference, *(x.double() for x in narrow))
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(1), torch.ones(case.N), atol=1e-5)
    assert float((found - truth).abs().max()) <= bound(case.call(sinkhorn_reference, *narrow), truth)


def test_sinkhorn_sends_no_gradient_back() -> None:
    scores = torch.randn(6, 4, requires_grad=True)
    assert not sinkhorn(scores, epsilon=0.1, iterations=2).requires_grad


def test_sinkhorn_takes_half_precision_and_strides() -> None:
    scores = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = sinkhorn(scores.float(), epsilon=0.1, iterations=3)
    assert torch.equal(sinkhorn(scores, epsilon=0.1, iterations=3), expected)
    assert torch.allclose(sinkhorn(scores.T.contiguous().T, epsilon=0.1, iterations=3), expected, atol=1e-6)


def test_identical_rows_give_log_of_their_number() -> None:
    same = torch.full((2, 6, 4), 50.0, requires_grad=True)
    loss = info_nce(same, same, temperature=0.01, keep_self=True)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(torch.tensor(12.0).log().item(), rel=1e-6)
    assert same.grad is not None
    assert float(same.grad.abs().max()) <= 1e-2 * 50 / 0.01 * 1e-5


def test_one_class_taking_all_mass_has_zero_entropy() -> None:
    logits = torch.zeros(2, 6, 5)
    logits[..., 3] = 1e4
    teacher, student = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, terms = distillation(
        teacher, student, teacher_temperature=0.5, student_temperature=1.0, entropy_weight=2.3, invariance_weight=0.8
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(terms.marginal_entropy) == pytest.approx(0, abs=1e-6)
    assert float(terms.classes_used) == 1
    for gradient in (teacher.grad, student.grad):
        assert gradient is not None
        assert float(gradient.abs().max()) <= 1e-6


def test_a_row_far_above_the_others_is_masked_without_infinities() -> None:
    """The own row's logit may exceed the maximum of the rest by more than an exponential holds."""
    rows = torch.eye(8).reshape(2, 4, 8).mul(30).requires_grad_()
    info_nce(rows, rows, temperature=0.01, keep_self=False).backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_a_tiny_target_beside_a_sure_one_keeps_its_digits() -> None:
    """1 + 4e-8 is 1 in fp32: the sum over all views, less the own view's, would have lost the tiny target."""
    tiny = 4e-8
    targets = torch.tensor([[[1.0, 0.0]], [[tiny, 1.0]]])
    student = torch.tensor([[[-1e4, 0.0]], [[0.0, -1e4]]])
    loss = soft_cross_entropy(student, targets, temperature=1.0)
    assert float(loss) == pytest.approx(tiny * 1e4 / 2, rel=1e-5)
