"""The Triton kernels against the specification: compiled where there is a GPU, interpreted elsewhere.

The interpreter cannot do bf16 (it truncates, and products are wrong), so half precision is fp16 here; bf16 is in
test_triton_gpu.py.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from issl_kernels import distillation, kernel_path, linear_blocks, sinkhorn, soft_cross_entropy
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import cases as nce_cases
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.linear_distillation import cases as linear_distillation_cases
from issl_kernels.linear_distillation.reference import linear_distillation_reference
from issl_kernels.linear_soft_cross_entropy import cases as linear_soft_cases
from issl_kernels.linear_soft_cross_entropy.reference import linear_soft_cross_entropy_reference
from issl_kernels.sigmoid_contrastive import cases as sigmoid_cases
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy import cases as soft_cases
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference

from .conftest import DEVICE, Operation, bound, label, value_and_gradients

LOGITS = [
    *(Operation("distillation", distillation_reference, case) for case in distillation_cases.TEST_CASES),
    *(Operation("soft_cross_entropy", soft_cross_entropy_reference, case) for case in soft_cases.TEST_CASES),
    *(Operation("sinkhorn", sinkhorn_reference, case) for case in sinkhorn_cases.TEST_CASES),
    *(Operation("info_nce", info_nce_reference, case) for case in nce_cases.TEST_CASES),
    *(Operation("sigmoid_contrastive", sigmoid_contrastive_reference, case) for case in sigmoid_cases.TEST_CASES),
]
FEATURES = [
    *(
        Operation("linear_distillation", linear_distillation_reference, case)
        for case in linear_distillation_cases.TEST_CASES
    ),
    *(
        Operation("linear_soft_cross_entropy", linear_soft_cross_entropy_reference, case)
        for case in linear_soft_cases.TEST_CASES
    ),
]
every_operation = pytest.mark.parametrize("operation", LOGITS + FEATURES, ids=label)
FEW = [
    Operation(
        "distillation",
        distillation_reference,
        distillation_cases.DistillationCase(name="small", V=3, G=2, B=5, C=21),
    ),
    Operation(
        "soft_cross_entropy",
        soft_cross_entropy_reference,
        soft_cases.SoftCrossEntropyCase(name="small", V=3, G=2, B=5, C=21, temperature=0.2),
    ),
    Operation("sinkhorn", sinkhorn_reference, sinkhorn_cases.SinkhornCase(name="small", N=9, K=21)),
    Operation(
        "info_nce",
        info_nce_reference,
        nce_cases.InfoNCECase(name="small", V=3, G=2, B=9, D=11, temperature=0.2, keep_self=False),
    ),
    Operation(
        "sigmoid_contrastive",
        sigmoid_contrastive_reference,
        sigmoid_cases.SigmoidContrastiveCase(name="small", V=3, G=2, B=9, D=11, keep_self=False, scale=3.0, bias=-1.0),
    ),
]
"""One of each kernel is enough for what does not depend on the case."""


@pytest.fixture(autouse=True)
def triton_path(small_triton_blocks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(linear_blocks, "LEAST_BYTES", 1000)
    with kernel_path("triton"):
        yield


@every_operation
def test_equals_the_reference_in_fp64(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64, DEVICE)
    found, expected = (value_and_gradients(operation, f, inputs, -1.7) for f in (operation.ours, operation.reference))
    for a, b in zip(found, expected, strict=True):
        assert a.isfinite().all()
        assert a.dtype == torch.float64
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10 * max(1.0, float(b.abs().max()))), (a - b).abs().max()


@every_operation
def test_fp32_is_as_accurate_as_the_eager_path(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float32, DEVICE, seed=1)
    truths = value_and_gradients(operation, operation.reference, tuple(x.double() for x in inputs), 0.6)
    floors = value_and_gradients(operation, operation.reference, inputs, 0.6)
    found = value_and_gradients(operation, operation.ours, inputs, 0.6)
    for a, floor, truth in zip(found, floors, truths, strict=True):
        assert a.dtype == torch.float32
        assert float((a - truth).abs().max()) <= leeway(operation) * bound(floor, truth)


def leeway(operation: Operation) -> int:
    """The gradient to a DISSL teacher takes the mean of its slopes from the forward pass, where blocks of classes are
    summed below their own maxima: with logits of 10 000 the two differ by a few units of 40 000's last place."""
    return 3 if operation.name == "distillation" and operation.case.name == "logits_10_000" else 1


@pytest.mark.parametrize("operation", FEW, ids=label)
def test_half_precision_is_summed_in_fp32(operation: Operation) -> None:
    half = operation.case.inputs(torch.float16, DEVICE)
    found = value_and_gradients(operation, operation.ours, half, 1.0)
    exact = value_and_gradients(operation, operation.reference, tuple(x.double() for x in half), 1.0)
    assert found[0].dtype == torch.float32
    assert float((found[0] - exact[0]).abs().max()) <= 1e-5 * float(exact[0].abs().max())
    for gradient, truth in zip(found[1:], exact[1:], strict=True):
        assert gradient.dtype == torch.float16
        rounding = torch.finfo(torch.float16).eps * truth.abs().max() + torch.finfo(torch.float16).smallest_normal
        assert float((gradient.double() - truth).abs().max()) <= rounding + 1e-6


@pytest.mark.parametrize("operation", FEW, ids=label)
def test_strided_inputs_give_the_same(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64, DEVICE)
    wider = tuple(torch.cat([x, x + 1], dim=-1)[..., : x.shape[-1]] for x in inputs)
    strided = tuple(torch.stack([x, x + 1], dim=-1)[..., 0] for x in inputs)
    turned = tuple(x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs)
    plain = value_and_gradients(operation, operation.ours, inputs, 1.0)
    for others in (wider, strided, turned):
        assert not all(x.is_contiguous() for x in others)
        for a, b in zip(plain, value_and_gradients(operation, operation.ours, others, 1.0), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("operation", FEW, ids=label)
def test_an_alignment_of_rows_changes_nothing(operation: Operation) -> None:
    """Rows that start at odd places in memory, as those of a slice do."""
    inputs = operation.case.inputs(torch.float32, DEVICE)
    shifted = tuple(torch.nn.functional.pad(x, (1, 2))[..., 1:-2] for x in inputs)
    plain = value_and_gradients(operation, operation.ours, inputs, 1.0)
    for a, b in zip(plain, value_and_gradients(operation, operation.ours, shifted, 1.0), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("operation", FEW, ids=label)
def test_the_same_input_gives_the_same_bits(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float32, DEVICE)
    first, second = (value_and_gradients(operation, operation.ours, inputs, 0.3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("case", distillation_cases.TEST_CASES, ids=lambda case: case.name)
def test_terms_of_distillation_are_those_of_the_reference(case: distillation_cases.DistillationCase) -> None:
    found: list[dict[str, float]] = []

    def keep(function: Any) -> Any:
        def wrapped(*inputs: Tensor, **settings: float) -> tuple[Tensor, NamedTuple]:
            loss, terms = function(*inputs, **settings)
            assert not any(term.requires_grad for term in terms)
            found.append({name: float(value) for name, value in terms._asdict().items()})
            return loss, terms

        return wrapped

    inputs = tuple(x.requires_grad_() for x in case.inputs(torch.float64, DEVICE))
    for function in (distillation, distillation_reference):
        case.call(keep(function), *inputs)
    ours, expected = found
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("operation", FEW[:2], ids=label)
def test_gradients_in_the_logits_memory_are_the_same(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64, DEVICE)
    plain = value_and_gradients(operation, operation.ours, inputs, 0.4)[1:]
    leaves = [x.clone().requires_grad_() for x in inputs[: operation.case.differentiable_inputs]]
    logits = [leaf * 1.0 for leaf in leaves]

    def overwriting(*tensors: Tensor, **settings: Any) -> Any:
        return operation.ours(*tensors, **settings, overwrite_logits=True)

    value = operation.case.call(overwriting, *logits, *inputs[operation.case.differentiable_inputs :])
    before = [x.data_ptr() for x in logits]
    handed: list[Tensor] = []
    for x in logits:
        x.register_hook(handed.append)
    (value * 0.4).backward()
    assert sorted(x.data_ptr() for x in handed) == sorted(before)
    for leaf, gradient in zip(leaves, plain, strict=True):
        assert leaf.grad is not None
        assert torch.allclose(leaf.grad, gradient, rtol=1e-12, atol=1e-15)


def test_more_classes_than_a_block_of_partial_results_are_joined() -> None:
    """Many blocks per row, the highest value in the last, ragged one."""
    teacher, student = torch.randn(2, 3, 333, device=DEVICE), torch.randn(3, 3, 333, device=DEVICE)
    teacher[0, 1, 332], student[2, 0, 332] = 30.0, 40.0
    settings = {
        "teacher_temperature": 0.5,
        "student_temperature": 1.0,
        "entropy_weight": 2.3,
        "invariance_weight": 0.8,
    }
    found, terms = distillation(teacher, student, **settings)
    expected, expected_terms = distillation_reference(teacher.double(), student.double(), **settings)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(terms.classes_used) == float(expected_terms.classes_used)


def test_one_class_taking_all_mass_has_zero_entropy() -> None:
    logits = torch.zeros(2, 6, 21, device=DEVICE)
    logits[..., 3] = 1e4
    teacher, student = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, terms = distillation(
        teacher, student, teacher_temperature=0.5, student_temperature=1.0, entropy_weight=2.3, invariance_weight=0.8
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(terms.classes_used) == 1
    for gradient in (teacher.grad, student.grad):
        assert gradient is not None
        assert float(gradient.abs().max()) <= 1e-6


def test_identical_logits_share_the_mass_evenly() -> None:
    teacher, student = torch.full((2, 5, 21), 7.0, device=DEVICE), torch.full((4, 5, 21), -3.0, device=DEVICE)
    _, terms = distillation(
        teacher, student, teacher_temperature=0.01, student_temperature=0.01, entropy_weight=1.0, invariance_weight=1.0
    )
    assert float(terms.perplexity) == pytest.approx(21, rel=1e-5)
    assert float(terms.distillation_ce) == pytest.approx(torch.tensor(21.0).log().item(), rel=1e-6)
    assert float(terms.classes_used) == 1


def test_a_tiny_target_beside_a_sure_one_keeps_its_digits() -> None:
    tiny = 4e-8
    targets = torch.tensor([[[1.0, 0.0]], [[tiny, 1.0]]], device=DEVICE)
    student = torch.tensor([[[-1e4, 0.0]], [[0.0, -1e4]]], device=DEVICE)
    loss = soft_cross_entropy(student, targets, temperature=1.0)
    assert float(loss) == pytest.approx(tiny * 1e4 / 2, rel=1e-5)


def test_sinkhorn_rows_sum_to_one_and_carry_no_gradient() -> None:
    scores = torch.randn(19, 21, device=DEVICE, requires_grad=True)
    assigned = sinkhorn(scores, epsilon=0.05, iterations=3)
    assert not assigned.requires_grad
    assert torch.allclose(assigned.sum(1), torch.ones(19, device=DEVICE), atol=1e-5)


def test_not_a_number_reaches_the_loss() -> None:
    """A defect upstream must not be hidden by a maximum that skips it."""
    for view, place in ((0, "teacher"), (2, "student")):
        teacher, student = torch.randn(2, 3, 21, device=DEVICE), torch.randn(3, 3, 21, device=DEVICE)
        (teacher if place == "teacher" else student)[view, 1, 5] = torch.nan
        loss, _ = distillation(
            teacher,
            student,
            teacher_temperature=0.5,
            student_temperature=1.0,
            entropy_weight=1.0,
            invariance_weight=1.0,
        )
        assert loss.isnan()
    student[2, 1, 5] = torch.nan
    assert soft_cross_entropy(student, teacher.softmax(-1), temperature=0.1).isnan()
