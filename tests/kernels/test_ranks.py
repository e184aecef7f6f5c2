"""Two and three gloo ranks give the loss and the gradients of one process that holds all rows."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.ranks import Ranks
from issl_kernels import cross_correlation, distillation, info_nce, kernel_path, linear_distillation, sinkhorn
from issl_kernels.collectives import _reduce_scatter, all_reduce_sum, gather_rows, reduce_scatter_rows
from issl_kernels.cross_correlation.reference import cross_correlation_reference
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.sinkhorn.reference import sinkhorn_reference

DISSL: dict[str, Any] = {
    "teacher_temperature": 0.5,
    "student_temperature": 0.9,
    "entropy_weight": 2.3,
    "invariance_weight": 0.8,
}
B = 3
WEIGHTS = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def losses(group: Any) -> dict[str, tuple[Any, list[tuple[int, ...]], int]]:
    """Name → (loss of the inputs, shapes before the batch axis is cut, batch axis)."""

    def shapes(*views: int, width: int = 5) -> list[tuple[int, ...]]:
        return [(v, 0, width) for v in views]

    return {
        "simclr": (lambda a, b: info_nce(a, b, temperature=0.3, keep_self=False, group=group), shapes(3, 2), 1),
        "cissl": (lambda a, b: info_nce(a, b, temperature=0.3, keep_self=True, group=group), shapes(3, 2), 1),
        "simclr_reference": (
            lambda a, b: info_nce_reference(a, b, temperature=0.3, keep_self=False, group=group), shapes(3, 2), 1,
        ),
        "dissl": (lambda t, s: distillation(t, s, **DISSL, group=group)[0], shapes(2, 4), 1),
        "dissl_reference": (lambda t, s: distillation_reference(t, s, **DISSL, group=group)[0], shapes(2, 4), 1),
        "simclr_one_target_view": (
            lambda a, b: info_nce(a, b, temperature=0.3, keep_self=False, group=group), shapes(2, 1), 1,
        ),
        "dissl_one_teacher_view": (lambda t, s: distillation(t, s, **DISSL, group=group)[0], shapes(1, 3), 1),
        "dissl_triton": (on_triton(lambda t, s: distillation(t, s, **DISSL, group=group)[0]), shapes(2, 4), 1),
        "dissl_from_features": (
            lambda t, s: linear_distillation(
                t, WEIGHTS[0], None, s, WEIGHTS[1], None, **DISSL, group=group)[0], shapes(2, 4), 1,
        ),
        "dissl_from_features_triton": (
            on_triton(lambda t, s: linear_distillation(
                t, WEIGHTS[0], None, s, WEIGHTS[1], None, **DISSL, group=group)[0]), shapes(2, 4), 1,
        ),
        "barlow": (lambda a, b: cross_correlation(a, b, off_diagonal_weight=0.02, group=group), [(0, 5), (0, 5)], 0),
        "barlow_reference": (
            lambda a, b: cross_correlation_reference(a, b, off_diagonal_weight=0.02, group=group), [(0, 5), (0, 5)], 0,
        ),
    }  # fmt: skip


def on_triton(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Interpreted, as the ranks are on CPUs; the one process that they are compared with may have a GPU instead."""

    def wrapped(*inputs: Tensor) -> Any:
        with kernel_path("triton" if os.environ.get("TRITON_INTERPRET") == "1" else "chunked"):
            return loss(*inputs)

    return wrapped


def inputs_for(shapes: list[tuple[int, ...]], axis: int, images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(*shape[:axis], images, *shape[axis + 1 :], dtype=torch.float64, generator=generator)
        for shape in shapes
    ]


SINKHORNS = {
    "sinkhorn": sinkhorn,
    "sinkhorn_reference": sinkhorn_reference,
    "sinkhorn_triton": lambda *scores, **settings: on_triton(lambda x: sinkhorn(x, **settings))(*scores),
}


def found_on_rank(ranks: Ranks) -> dict[str, Any]:
    rank, world_size, group = ranks.rank, ranks.world_size, ranks.group
    assert group is not None
    found: dict[str, Any] = {}
    for name, (loss, shapes, axis) in losses(group).items():
        mine = [x.narrow(axis, rank * B, B).clone().requires_grad_() for x in inputs_for(shapes, axis, B * world_size)]
        value = loss(*mine)
        value.backward()
        found[name] = (value.detach(), [x.grad / world_size for x in mine])  # type: ignore[operator]
    scores = inputs_for([(0, 4)], 0, B * world_size)[0][rank * B : rank * B + B]
    for name, function in SINKHORNS.items():
        found[name] = function(scores, epsilon=0.2, iterations=3, group=group)
    teacher, student = (x[:, rank * B : rank * B + B] for x in inputs_for([(2, 0, 5), (4, 0, 5)], 1, B * world_size))
    found["terms"] = tuple(distillation(teacher, student, **DISSL, group=group)[1])
    found["local"] = distillation(teacher, student, **DISSL)[0]
    found["collectives"] = collectives(rank, world_size, group)
    return found


def collectives(rank: int, world_size: int, group: ProcessGroup) -> dict[str, Tensor]:
    """Sums over ranks whose memory is laid out differently from rank to rank."""
    numbers = torch.arange(6.0).reshape(2, 3) + rank
    turned = numbers if rank else numbers.T.contiguous().T
    leaf = turned.clone(memory_format=torch.preserve_format).requires_grad_()
    gathered = gather_rows(leaf, group, dim=1)
    weight = torch.arange(6.0 * world_size).reshape(2, -1)
    gathered.backward(weight if rank else weight.T.contiguous().T)
    wide = torch.cat([turned + part for part in range(world_size)], dim=1)
    assert leaf.grad is not None
    return {
        "sum": all_reduce_sum(turned, group),
        "gathered": gathered.detach(),
        "gathered_gradient": leaf.grad,
        "scattered": reduce_scatter_rows(wide, group, dim=1),
        "scattered_as_nccl_does": _reduce_scatter(wide, group, 1),
    }


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_equal_one_process(world_size: int, run_ranks: Callable[..., list[dict[str, Any]]]) -> None:
    ranks = run_ranks(found_on_rank, world_size=world_size)
    for name, (loss, shapes, axis) in losses(None).items():
        whole = [x.requires_grad_() for x in inputs_for(shapes, axis, B * world_size)]
        value = loss(*whole)
        value.backward()
        for rank in ranks:
            assert torch.allclose(rank[name][0], value, rtol=1e-10), name
        for index, x in enumerate(whole):
            gathered = torch.cat([rank[name][1][index] for rank in ranks], dim=axis)
            assert torch.allclose(gathered, x.grad, rtol=1e-8, atol=1e-12), name  # type: ignore[arg-type]
    scores = inputs_for([(0, 4)], 0, B * world_size)[0]
    for name in SINKHORNS:
        together = torch.cat([rank[name] for rank in ranks])
        assert torch.allclose(together, sinkhorn(scores, epsilon=0.2, iterations=3), rtol=1e-10), name
    teacher, student = inputs_for([(2, 0, 5), (4, 0, 5)], 1, B * world_size)
    for index, rank in enumerate(ranks):
        assert torch.allclose(torch.stack(rank["terms"]), torch.stack(distillation(teacher, student, **DISSL)[1]))
        mine = slice(index * B, index * B + B)
        assert torch.allclose(rank["local"], distillation(teacher[:, mine], student[:, mine], **DISSL)[0])
    collectives_are_right([rank["collectives"] for rank in ranks])


def collectives_are_right(ranks: list[dict[str, Tensor]]) -> None:
    world_size = len(ranks)
    numbers = [torch.arange(6.0).reshape(2, 3) + index for index in range(world_size)]
    total = torch.stack(numbers).sum(0)
    weight = torch.arange(6.0 * world_size).reshape(2, -1) * world_size
    for index, found in enumerate(ranks):
        assert torch.equal(found["sum"], total)
        assert torch.equal(found["gathered"], torch.cat(numbers, dim=1))
        assert torch.equal(found["gathered_gradient"], weight[:, 3 * index : 3 * index + 3])
        assert torch.equal(found["scattered"], total + index * world_size)
        assert torch.equal(found["scattered_as_nccl_does"], total + index * world_size)
