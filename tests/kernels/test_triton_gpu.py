"""What only a GPU can show: bf16, real sizes, 64-bit offsets, memory, graphs, streams."""

from typing import Any

import pytest
import torch
from torch import Tensor

from issl_kernels import (
    LinearTeacher,
    distillation,
    info_nce,
    kernel_path,
    linear_distillation,
    linear_soft_cross_entropy,
    sinkhorn,
    soft_cross_entropy,
)
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import cases as nce_cases
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.linear_distillation import cases as linear_cases
from issl_kernels.linear_distillation.reference import linear_distillation_reference
from issl_kernels.path import resolved_path
from issl_kernels.sigmoid_contrastive import cases as sigmoid_cases
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy import cases as soft_cases
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference
from issl_profiling.kernels.own_providers import SameMemory

from .conftest import Operation, label, value_and_gradients

pytestmark = pytest.mark.gpu

REAL = [
    Operation("distillation", distillation_reference, distillation_cases.BENCH_CASES[0]),
    Operation("soft_cross_entropy", soft_cross_entropy_reference, soft_cases.BENCH_CASES[1]),
    Operation("sinkhorn", sinkhorn_reference, sinkhorn_cases.BENCH_CASES[0]),
    Operation("linear_distillation", linear_distillation_reference, linear_cases.BENCH_CASES[0]),
    Operation("info_nce", info_nce_reference, nce_cases.BENCH_CASES[0]),
    Operation("info_nce", info_nce_reference, nce_cases.BENCH_CASES[1]),
    Operation("sigmoid_contrastive", sigmoid_contrastive_reference, sigmoid_cases.BENCH_CASES[0]),
]
LOGITS = REAL[:2]
DISSL: dict[str, Any] = {
    "teacher_temperature": 0.5,
    "student_temperature": 1.0,
    "entropy_weight": 2.3,
    "invariance_weight": 0.8,
}


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, dtype=dtype, device="cuda")


def test_auto_takes_the_kernels() -> None:
    assert resolved_path("distillation", torch.device("cuda"), True) == "triton"


@pytest.mark.parametrize("operation", REAL, ids=label)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_real_sizes_are_as_accurate_as_the_eager_path(operation: Operation, dtype: torch.dtype) -> None:
    """Gradients are rounded to the logits' dtype, so a rounding is allowed beside the eager path's own error."""
    inputs = operation.case.inputs(dtype, "cuda")
    truths = value_and_gradients(operation, operation.reference, tuple(x.double() for x in inputs), 0.7)
    truths = [x.cpu() for x in truths]
    floors = [x.cpu() for x in value_and_gradients(operation, operation.reference, inputs, 0.7)]
    found = [x.cpu() for x in value_and_gradients(operation, operation.ours, inputs, 0.7)]
    for a, floor, truth in zip(found, floors, truths, strict=True):
        rounding = torch.finfo(a.dtype).eps * float(truth.abs().max()) + torch.finfo(a.dtype).smallest_normal
        assert float((a - truth).abs().max()) <= 2 * float((floor - truth).abs().max()) + 1e-5 + rounding


@pytest.mark.parametrize("operation", REAL, ids=label)
def test_the_same_input_gives_the_same_bits(operation: Operation) -> None:
    inputs = operation.case.inputs(torch.bfloat16, "cuda")
    first, second = (value_and_gradients(operation, operation.ours, inputs, 0.7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_quarter_of_a_million_classes() -> None:
    """2^18 classes; the student's logits are past 2^31 elements, so 32-bit offsets would wrap around."""
    teacher, student = random(2, 1400, 2**18), random(6, 1400, 2**18)
    assert student.numel() > 2**31
    with torch.no_grad():
        found, terms = distillation(teacher, student, **DISSL)
        part, _ = distillation_reference(teacher[:, -20:].float(), student[:, -20:].float(), **DISSL)
        last, last_terms = distillation(teacher[:, -20:], student[:, -20:], **DISSL)
    assert found.isfinite()
    assert float(last) == pytest.approx(float(part), rel=1e-5)
    assert float(terms.conditional_entropy) == pytest.approx(float(last_terms.conditional_entropy), rel=1e-2)
    targets = teacher[:, -3:].float().softmax(-1)
    leaf = student[:, -3:].clone().requires_grad_()
    loss = soft_cross_entropy(leaf, targets, temperature=0.1)
    loss.backward()
    expected = leaf.detach().float().requires_grad_()
    soft_cross_entropy_reference(expected, targets, temperature=0.1).backward()
    assert leaf.grad is not None
    assert expected.grad is not None
    assert torch.allclose(leaf.grad.float(), expected.grad, rtol=2e-2, atol=1e-6)


def test_a_million_images() -> None:
    teacher, student = random(2, 2**20, 64), random(3, 2**20, 64)
    with torch.no_grad():
        found, _ = distillation(teacher, student, **DISSL)
        expected, _ = distillation_reference(teacher, student, **DISSL)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    scores = random(2**20, 300) * 0.1
    assigned = sinkhorn(scores, epsilon=0.05, iterations=3)
    assert torch.allclose(assigned.sum(0), torch.full((300,), 2**20 / 300, device="cuda"), rtol=0.05)


@pytest.mark.parametrize("operation", LOGITS, ids=label)
def test_gradients_in_place_take_no_memory_to_speak_of(operation: Operation) -> None:
    """At most 5 % of the logits beyond themselves."""
    count = operation.case.differentiable_inputs
    inputs = operation.case.inputs(torch.bfloat16, "cuda")
    logits_bytes = sum(x.nbytes for x in inputs[:count])

    def once() -> int:
        leaves = [x.clone().requires_grad_() for x in inputs[:count]]
        logits = [SameMemory.apply(leaf) for leaf in leaves]
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()

        def overwriting(*tensors: Tensor, **settings: Any) -> Any:
            return operation.ours(*tensors, **settings, overwrite_logits=True)

        value = operation.case.call(overwriting, *logits, *inputs[count:])
        torch.autograd.grad(value, logits)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    once()
    assert once() <= 0.05 * logits_bytes


def test_features_path_stays_within_twice_its_inputs() -> None:
    case = linear_cases.BENCH_CASES[0]
    inputs = [x.requires_grad_() for x in case.inputs(torch.bfloat16, "cuda")]

    def once() -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.autograd.grad(case.call(linear_distillation, *inputs), inputs)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    once()
    assert once() <= 2 * sum(x.nbytes for x in inputs)


def test_autocast_does_not_lower_the_arithmetic() -> None:
    teacher, student = random(2, 64, 1000, dtype=torch.float32), random(4, 64, 1000, dtype=torch.float32)
    plain, _ = distillation(teacher, student, **DISSL)
    with torch.autocast("cuda", torch.bfloat16):
        cast, _ = distillation(teacher, student, **DISSL)
    assert torch.equal(plain, cast)


def test_losses_from_features_under_autocast() -> None:
    features, weight = random(4, 64, 32, dtype=torch.float32), random(500, 32, dtype=torch.float32)
    features.requires_grad_()
    teacher = LinearTeacher(features[:2].detach(), weight, None, 0.05)
    with torch.autocast("cuda", torch.bfloat16):
        loss = linear_soft_cross_entropy(features, weight, None, teacher, temperature=0.1)
    loss.backward()
    exact = linear_soft_cross_entropy(features.detach().double(), weight.double(), None, teacher._replace(
        features_GBH=features[:2].detach().double(), weight_CH=weight.double()), temperature=0.1)  # fmt: skip
    assert features.grad is not None
    assert features.grad.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(exact), rel=2e-2)


def test_a_graph_replays_with_new_logits() -> None:
    teacher, student = random(2, 64, 3000).requires_grad_(), random(6, 64, 3000).requires_grad_()

    def step() -> Tensor:
        loss, _ = distillation(teacher, student, **DISSL)
        d_teacher, d_student = torch.autograd.grad(loss, (teacher, student))
        targets = sinkhorn(teacher.detach()[0], epsilon=1.0, iterations=3)
        soft = soft_cross_entropy(student, targets[None], temperature=0.5)
        return torch.stack([loss.detach(), d_teacher.float().sum(), d_student.float().abs().sum(), soft.detach()])

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        teacher.copy_(random(2, 64, 3000))
        student.copy_(random(6, 64, 3000))
    graph.replay()
    assert torch.equal(captured, step())


def test_two_streams_do_not_disturb_each_other() -> None:
    inputs = [(random(2, 256, 3000), random(6, 256, 3000)) for _ in range(2)]
    expected = [distillation(*pair, **DISSL)[0].clone() for pair in inputs]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    found: list[list[Tensor]] = [[], []]
    for _ in range(10):
        for index, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found[index].append(distillation(*inputs[index], **DISSL)[0])
    torch.cuda.synchronize()
    for values, truth in zip(found, expected, strict=True):
        assert all(torch.equal(value, truth) for value in values)


def test_compile_with_inductor() -> None:
    teacher, student = random(2, 64, 3000).requires_grad_(), random(6, 64, 3000).requires_grad_()

    def loss(teacher: Tensor, student: Tensor) -> Tensor:
        return distillation(teacher * 2, student * 1.5, **DISSL)[0]

    compiled = torch.compile(loss, fullgraph=True)
    eager, found = (torch.autograd.grad(f(teacher, student), (teacher, student)) for f in (loss, compiled))
    for a, b in zip(eager, found, strict=True):
        assert torch.allclose(a, b, rtol=2e-2, atol=1e-6)


def test_launching_waits_for_nothing() -> None:
    """No copy to the host and no wait for the device, forward or backward."""
    teacher, student = random(2, 64, 3000).requires_grad_(), random(6, 64, 3000).requires_grad_()
    torch.autograd.grad(distillation(teacher, student, **DISSL)[0], (teacher, student))
    torch.cuda.synchronize()
    with kernel_path("triton"):
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss, _ = distillation(teacher, student, **DISSL)
            torch.autograd.grad(loss, (teacher, student))
            soft_cross_entropy(student, sinkhorn(teacher.detach()[0], epsilon=1.0, iterations=3)[None], temperature=0.5)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_hundred_thousand_rows_train() -> None:
    """131072 anchors x 131072 targets, whose logits would take 64 GiB in fp32."""
    rows = torch.nn.functional.normalize(random(2, 2**16, 256, dtype=torch.float32), dim=-1).bfloat16()
    rows.requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = info_nce(rows, rows, temperature=0.1, keep_self=False)
    loss.backward()
    torch.cuda.synchronize()
    assert loss.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    assert torch.cuda.max_memory_allocated() - before <= 16 * rows.nbytes
    # A few anchors against all targets, in plain torch.
    some = torch.arange(5, device="cuda")
    logits = rows.detach()[0, some].float() @ rows.detach().flatten(0, 1).float().T / 0.1
    logits[some, some] = -torch.inf
    expected = (logits.logsumexp(1) - logits[some, 2**16 + some]).mean()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=0.1)
