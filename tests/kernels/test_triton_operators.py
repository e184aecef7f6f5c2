"""The kernels as torch operators: their declared schemas and shapes hold, and torch.compile takes them whole."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from issl_kernels import distillation, info_nce, kernel_path, sigmoid_contrastive, sinkhorn, soft_cross_entropy
from issl_kernels.distillation import triton_ops as distillation_ops
from issl_kernels.info_nce import triton_ops as nce_ops
from issl_kernels.info_nce.statistics import RowStatistics
from issl_kernels.sigmoid_contrastive import triton_ops as sigmoid_ops
from issl_kernels.sinkhorn import triton_ops as sinkhorn_ops
from issl_kernels.soft_cross_entropy import triton_ops as soft_ops

from .conftest import DEVICE

G, V, B, C = 2, 3, 3, 10


def tensors() -> tuple[Tensor, Tensor]:
    teacher, student = torch.randn(G, B, C, device=DEVICE), torch.randn(V, B, C, device=DEVICE)
    return teacher, student


def statistics() -> tuple[Any, ...]:
    return (*tensors(), 0.5, 1.0, 0.8, True)


def gradients() -> tuple[Any, ...]:
    teacher, student = tensors()
    maxima, exponentials, dots, sums = distillation_ops.distillation_statistics(teacher, student, 0.5, 1.0, 0.8, True)
    values, log_marginal = distillation_ops.distillation_finish(sums, B, V, G, 2.3, 0.8)
    return teacher, student, maxima, exponentials, dots, log_marginal, values[0].clone(), B, 0.5, 1.0, 2.3, 0.8


def soft_gradients() -> tuple[Any, ...]:
    teacher, student = tensors()
    targets = teacher.softmax(-1)
    loss, *rest = soft_ops.soft_cross_entropy_statistics(student, targets, 0.1, True)
    return student, targets, *rest, loss, 0.1, True


def nce_statistics() -> tuple[Any, ...]:
    anchors, targets = torch.randn(V, B, 4, device=DEVICE), torch.randn(G, B, 4, device=DEVICE)
    return anchors, targets, None, None, torch.tensor(3.0, device=DEVICE), 0, 0, False


def nce_gradients() -> tuple[Any, ...]:
    arguments = nce_statistics()
    rows = RowStatistics(*nce_ops.info_nce_statistics(*arguments).unbind())
    return (*arguments, *rows.for_gradients())


def sigmoid_inputs() -> tuple[Any, ...]:
    anchors, targets, *labels, scale, first_image, first_target, keep_self = nce_statistics()
    return anchors, targets, *labels, scale, torch.tensor(-1.0, device=DEVICE), first_image, first_target, keep_self


OPERATORS: list[tuple[Any, Callable[[], tuple[Any, ...]]]] = [
    (distillation_ops.distillation_statistics, statistics),
    (distillation_ops.distillation_finish, lambda: (torch.rand(G * C + C + 3, device=DEVICE), B, V, G, 2.3, 0.8)),
    (distillation_ops.distillation_gradients, gradients),
    (distillation_ops.distillation_gradients_, gradients),
    (soft_ops.soft_cross_entropy_statistics, lambda: (tensors()[1], tensors()[0].softmax(-1), 0.1, True)),
    (soft_ops.soft_cross_entropy_gradients, soft_gradients),
    (soft_ops.soft_cross_entropy_gradients_, soft_gradients),
    (nce_ops.info_nce_statistics, nce_statistics),
    (nce_ops.info_nce_gradients, nce_gradients),
    (sigmoid_ops.sigmoid_contrastive_losses, sigmoid_inputs),
    (sigmoid_ops.sigmoid_contrastive_gradients, sigmoid_inputs),
    (sinkhorn_ops.sinkhorn_columns, lambda: (torch.randn(7, C, device=DEVICE), None, None, 0.1)),
    (
        sinkhorn_ops.sinkhorn_columns,
        lambda: (
            torch.randn(7, C, device=DEVICE),
            *(torch.randn(C, device=DEVICE, dtype=torch.float64) for _ in range(2)),
            0.1,
        ),
    ),
    (
        sinkhorn_ops.sinkhorn_assign,
        lambda: (
            torch.randn(7, C, device=DEVICE),
            *(torch.randn(C, device=DEVICE, dtype=torch.float64) for _ in range(2)),
            0.1,
        ),
    ),
]


@pytest.mark.parametrize(("operator", "arguments"), OPERATORS, ids=lambda x: getattr(x, "_name", ""))
def test_an_operator_is_what_it_declares(operator: Any, arguments: Callable[[], tuple[Any, ...]]) -> None:
    """Mutations, aliases, shapes and dtypes without data, and tracing. The gradient belongs to the autograd function
    around the operators, so none is registered for them."""
    torch.library.opcheck(
        operator, arguments(), test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    )


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("path", ["triton", "chunked"])
def test_compile_finds_no_graph_break(path: str, overwrite: bool) -> None:
    weight, features = torch.randn(C, 4, device=DEVICE), torch.randn(V, B, 4, device=DEVICE)

    def losses(weight: Tensor) -> Tensor:
        loss, terms = distillation(
            features[:G] @ weight.T * 1.5,
            features @ weight.T,
            teacher_temperature=0.5,
            student_temperature=1.0,
            entropy_weight=2.3,
            invariance_weight=0.8,
            overwrite_logits=overwrite,
        )
        assigned = sinkhorn(features[0] @ weight.T, epsilon=0.5, iterations=2)
        targets = torch.stack([assigned, assigned.flip(0)])
        soft = soft_cross_entropy(features @ weight.T, targets, temperature=0.1, overwrite_logits=overwrite)
        rows = features @ weight.T
        contrast = info_nce(rows, rows[:G], temperature=0.5, keep_self=False)
        pairs = sigmoid_contrastive(rows, rows[:G], scale=2.0, bias=weight.mean(), keep_self=False)
        return loss + soft + contrast + pairs + terms.marginal_entropy

    found = []
    with kernel_path(path):
        for function in (losses, torch.compile(losses, fullgraph=True, backend="aot_eager")):
            leaf = weight.clone().requires_grad_()
            value = function(leaf)
            value.backward()
            assert leaf.grad is not None
            found.append((value.detach(), leaf.grad))
    for eager, compiled in zip(*found, strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-5, atol=1e-6)
