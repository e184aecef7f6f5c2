"""The losses from features, on the torch path: values, gradients, blocks, memory, autocast, frozen inputs."""

from typing import Any

import pytest
import torch
from torch import Tensor

from issl_kernels import LinearTeacher, kernel_path, linear_blocks, linear_distillation, linear_soft_cross_entropy
from issl_kernels.linear_blocks import even_blocks
from issl_kernels.linear_distillation import cases as distillation_cases
from issl_kernels.linear_distillation.reference import linear_distillation_reference
from issl_kernels.linear_soft_cross_entropy import cases as soft_cases
from issl_kernels.linear_soft_cross_entropy.reference import linear_soft_cross_entropy_reference

from .conftest import Operation, bound, label, value_and_gradients
from .test_memory import LargeTemporaries

OPERATIONS = [
    *(Operation("linear_distillation", linear_distillation_reference, case) for case in distillation_cases.TEST_CASES),
    *(
        Operation("linear_soft_cross_entropy", linear_soft_cross_entropy_reference, case)
        for case in soft_cases.TEST_CASES
    ),
]
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=label)
few_operations = pytest.mark.parametrize("operation", [OPERATIONS[0], OPERATIONS[5]], ids=label)
DISSL: dict[str, Any] = {
    "teacher_temperature": 0.5,
    "student_temperature": 1.0,
    "entropy_weight": 2.3,
    "invariance_weight": 0.8,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images a block."""
    monkeypatch.setattr(linear_blocks, "LEAST_BYTES", 1000)


@every_operation
def test_equals_the_reference_in_fp64(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float64)
    found, expected = (value_and_gradients(operation, f, inputs, -1.7) for f in (operation.ours, operation.reference))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12 * max(1.0, float(b.abs().max())))


@every_operation
def test_fp32_is_as_accurate_as_the_eager_path(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.float32, seed=1)
    truths = value_and_gradients(operation, operation.reference, tuple(x.double() for x in inputs), 0.6)
    floors = value_and_gradients(operation, operation.reference, inputs, 0.6)
    found = value_and_gradients(operation, operation.ours, inputs, 0.6)
    for a, floor, truth in zip(found, floors, truths, strict=True):
        assert a.dtype == torch.float32
        assert float((a - truth).abs().max()) <= bound(floor, truth)


@few_operations
@pytest.mark.parametrize("mode", ["bf16 features", "autocast"])
def test_products_in_half_precision_have_gradients_in_the_inputs_dtypes(operation: Operation, mode: str) -> None:
    """Compared with the eager path on the same roundings; the sums over blocks are in fp32."""
    inputs = operation.case.inputs(torch.bfloat16 if mode == "bf16 features" else torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        found, expected = (
            value_and_gradients(operation, f, inputs, 1.0) for f in (operation.ours, operation.reference)
        )
    exact = value_and_gradients(operation, operation.reference, tuple(x.double() for x in inputs), 1.0)
    count = operation.case.differentiable_inputs
    assert [x.dtype for x in found[1:]] == [x.dtype for x in inputs[:count]]
    for a, eager, truth in zip(found, expected, exact, strict=True):
        rounding = 2 * torch.finfo(torch.bfloat16).eps * float(truth.abs().max())
        assert float((a - truth).abs().max()) <= 2 * float((eager - truth).abs().max()) + rounding


def test_logits_of_all_views_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = (torch.randn(v, 64, 8, requires_grad=True) for v in (2, 6))
    weights = [torch.randn(128, 8, requires_grad=True) for _ in range(2)]
    images_of_a_block = 4
    monkeypatch.setattr(linear_blocks, "LEAST_BYTES", images_of_a_block * 8 * 128 * 4)
    for call in (
        lambda: linear_distillation(teacher, weights[0], None, student, weights[1], None, **DISSL)[0],
        lambda: linear_soft_cross_entropy(
            student, weights[1], None, LinearTeacher(teacher, weights[0], None, 0.05), temperature=0.1
        ),
    ):
        with LargeTemporaries() as watch:
            call().backward()
        assert watch.over(images_of_a_block * 8 * 128) == []
    with LargeTemporaries() as watch:
        linear_distillation_reference(teacher, weights[0], None, student, weights[1], None, **DISSL)[0].backward()
    assert watch.over(images_of_a_block * 8 * 128) != []


def test_only_wanted_gradients_are_made() -> None:
    features, weight, bias = torch.randn(3, 9, 4), torch.randn(7, 4), torch.randn(7)
    targets = torch.rand(2, 9, 7).softmax(-1)
    for wanted in ((True, False, False), (False, True, False), (False, False, True), (False, False, False)):
        leaves = [x.clone().requires_grad_(w) for x, w in zip((features, weight, bias), wanted, strict=True)]
        loss = linear_soft_cross_entropy(*leaves, targets, temperature=0.1)
        assert loss.requires_grad == any(wanted)
        if any(wanted):
            loss.backward()
        assert [leaf.grad is not None for leaf in leaves] == list(wanted)


def test_without_gradients_none_are_made() -> None:
    teacher, student = (torch.randn(v, 6, 4, requires_grad=True) for v in (2, 3))
    weight = torch.randn(7, 4, requires_grad=True)
    with torch.no_grad():
        found, _ = linear_distillation(teacher, weight, None, student, weight, None, **DISSL)
    expected, _ = linear_distillation_reference(teacher, weight, None, student, weight, None, **DISSL)
    assert not found.requires_grad
    assert float(found) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_second_backward_pass_is_refused() -> None:
    """The gradients were scaled in their own memory: the second pass would scale them again."""
    features, weight = torch.randn(3, 6, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    loss = linear_soft_cross_entropy(features, weight, None, torch.rand(2, 6, 7).softmax(-1), temperature=0.1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_one_weight_for_teacher_and_student_gets_both_gradients() -> None:
    teacher, student = (torch.randn(v, 6, 4, dtype=torch.float64) for v in (2, 3))
    shared = torch.randn(7, 4, dtype=torch.float64)
    gradients = []
    for function in (linear_distillation, linear_distillation_reference):
        weight = shared.clone().requires_grad_()
        function(teacher, weight, None, student, weight, None, **DISSL)[0].backward()
        assert weight.grad is not None
        gradients.append(weight.grad)
    assert torch.allclose(*gradients, rtol=1e-10)


def test_terms_are_those_from_logits() -> None:
    teacher, student = (torch.randn(v, 6, 4, dtype=torch.float64) for v in (2, 3))
    weights = [torch.randn(7, 4, dtype=torch.float64) for _ in range(2)]
    arguments = (teacher, weights[0], None, student, weights[1], None)
    _, found = linear_distillation(*arguments, **DISSL)
    _, expected = linear_distillation_reference(*arguments, **DISSL)
    assert torch.allclose(torch.stack(tuple(found)), torch.stack(tuple(expected)).double(), rtol=1e-9)


@pytest.mark.parametrize(("images", "per_image", "expected"), [(10, 3000, 4), (10, 100000, 10), (10, 1, 1)])
def test_blocks_are_even_and_within_their_share(
    images: int, per_image: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_blocks, "LEAST_BYTES", 9500)
    blocks = list(even_blocks(images, per_image, torch.empty(10)))
    sizes = [block.stop - block.start for block in blocks]
    assert len(blocks) == expected
    assert sum(sizes) == images
    assert max(sizes) - min(sizes) <= max(sizes) - 1
    assert blocks[0].start == 0


X = torch.randn


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: linear_distillation(X(2, 3, 4), X(7, 5), None, X(2, 3, 4), X(7, 4), None, **DISSL),
         r"teacher_weight_CH and teacher_features do not fit.*\(7, 5\) and \(2, 3, 4\)"),
        (lambda: linear_distillation(X(2, 3, 4), X(7, 4), None, X(2, 3, 4), X(6, 4), None, **DISSL),
         r"teacher_weight_CH and student_weight_CH.*\(7, 4\) and \(6, 4\)"),
        (lambda: linear_distillation(X(2, 3, 4), X(7, 4), X(6), X(2, 3, 4), X(7, 4), None, **DISSL),
         "teacher_bias_C and teacher_weight_CH"),
        (lambda: linear_distillation(X(2, 3, 4), X(7, 4), None, X(2, 2, 4), X(7, 4), None, **DISSL),
         "teacher_features_GBH and student_features_VBH"),
        (lambda: linear_distillation(X(3, 3, 4), X(7, 4), None, X(2, 3, 4), X(7, 4), None, **DISSL), "more views"),
        (lambda: linear_soft_cross_entropy(X(2, 3, 4), X(7, 4), None, X(2, 3, 6), temperature=1.0),
         "number of classes"),
        (lambda: linear_soft_cross_entropy(X(2, 3, 4), X(7, 4), None, X(2, 4, 7), temperature=1.0),
         "targets and features_VBH"),
        (lambda: linear_soft_cross_entropy(X(2, 3, 4), X(7, 4), None, X(2, 3, 7), temperature=0.0), "temperature"),
        (lambda: linear_soft_cross_entropy(X(2, 3, 4), X(7, 4), None, X(2, 3, 7).requires_grad_(), temperature=1.0),
         "detach"),
        (lambda: linear_soft_cross_entropy(
            X(2, 3, 4), X(7, 4), None, LinearTeacher(X(2, 3, 4), X(7, 4), None, 0.0), temperature=1.0),
         "targets.temperature must be positive"),
        (lambda: linear_soft_cross_entropy(
            X(2, 3, 4), X(7, 4), None, LinearTeacher(X(2, 3, 4), X(7, 4), None, 1.0, X(6)), temperature=1.0),
         "targets.centre_C and weight_CH"),
    ],
)  # fmt: skip
def test_the_argument_is_named(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_path_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference path takes one product for all images, the chunked path one for every block and pass."""
    products: list[int] = []
    original = torch.nn.functional.linear

    def counted(x: Tensor, *rest: Any) -> Tensor:
        products.append(x.shape[1])
        return original(x, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    features, weight, targets = torch.randn(3, 64, 4), torch.randn(7, 4), torch.rand(2, 64, 7).softmax(-1)
    with kernel_path("reference"):
        linear_soft_cross_entropy(features, weight, None, targets, temperature=0.1)
    assert products == [64]
    linear_soft_cross_entropy(features, weight, None, targets, temperature=0.1)
    assert len(products) > 2
