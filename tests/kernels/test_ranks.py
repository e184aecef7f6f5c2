"""Two and three gloo ranks give the loss and the gradients of one process that holds all rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from issl_kernels import cross_correlation, distillation, info_nce, sinkhorn
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce.reference import info_nce_reference

DISSL = {"teacher_temperature": 0.5, "student_temperature": 0.9, "entropy_weight": 2.3, "invariance_weight": 0.8}
B = 3


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
        "barlow": (lambda a, b: cross_correlation(a, b, off_diagonal_weight=0.02, group=group), [(0, 5), (0, 5)], 0),
    }  # fmt: skip


def inputs_for(shapes: list[tuple[int, ...]], axis: int, images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(*shape[:axis], images, *shape[axis + 1 :], dtype=torch.float64, generator=generator)
        for shape in shapes
    ]


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    found: dict[str, Any] = {}
    for name, (loss, shapes, axis) in losses(dist.group.WORLD).items():
        mine = [x.narrow(axis, rank * B, B).clone().requires_grad_() for x in inputs_for(shapes, axis, B * world_size)]
        value = loss(*mine)
        value.backward()
        found[name] = (value.detach(), [x.grad / world_size for x in mine])  # type: ignore[operator]
    scores = inputs_for([(0, 4)], 0, B * world_size)[0]
    found["sinkhorn"] = sinkhorn(scores[rank * B : rank * B + B], epsilon=0.2, iterations=3, group=dist.group.WORLD)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_equal_one_process(world_size: int, tmp_path: Path) -> None:
    multiprocessing.spawn(work, (world_size, str(tmp_path)), nprocs=world_size)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(world_size)]
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
    together = torch.cat([rank["sinkhorn"] for rank in ranks])
    assert torch.allclose(together, sinkhorn(scores, epsilon=0.2, iterations=3), rtol=1e-10)
