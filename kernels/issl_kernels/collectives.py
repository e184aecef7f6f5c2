"""Collectives with gradients. Process groups are arguments; None means this process alone (every function is then
the identity).

Convention of every operation that takes a group: each rank passes its rows and gets the loss of the global batch. A
backward here sums the gradients of all ranks' copies of that loss, so the rows of each rank receive world-size times
their share, and averaging parameter gradients over ranks gives exactly the one-process gradient.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def world_size(group: ProcessGroup | None) -> int:
    """Number of ranks."""
    return 1 if group is None else dist.get_world_size(group)


def rank(group: ProcessGroup | None) -> int:
    """This process's place in the group."""
    return 0 if group is None else dist.get_rank(group)


def gather_rows(rows: Tensor, group: ProcessGroup | None, *, dim: int = 0) -> Tensor:
    """Rows of all ranks, in rank order along ``dim``; the gradient is summed over ranks and cut back to our rows."""
    if group is None:
        return rows
    gathered: Tensor = _GatherRows.apply(rows, group, dim)  # type: ignore[no-untyped-call]
    return gathered


def all_reduce_sum(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum over ranks; the gradient is summed over ranks too."""
    if group is None:
        return values
    total: Tensor = _AllReduceSum.apply(values, group)  # type: ignore[no-untyped-call]
    return total


def all_reduce_sum_(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum over ranks in place, outside autograd. ``values`` must be contiguous."""
    if group is not None:
        # Memory is added up as it lies: ranks with other strides would add the wrong elements, without an error.
        assert values.is_contiguous(), f"strides {values.stride()}"
        dist.all_reduce(values, group=group)
    return values


def all_reduce_max_(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """Maximum over ranks in place, outside autograd. ``values`` must be contiguous."""
    if group is not None:
        assert values.is_contiguous(), f"strides {values.stride()}"
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=group)
    return values


def all_gather(rows: Tensor, group: ProcessGroup | None, *, dim: int = 0) -> Tensor:
    """Rows of all ranks, outside autograd."""
    if group is None:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size(group))]
    dist.all_gather(parts, rows.contiguous(), group=group)
    return torch.cat(parts, dim=dim)


def reduce_scatter_rows(rows: Tensor, group: ProcessGroup | None, *, dim: int = 0) -> Tensor:
    """The counterpart of all_gather: the sum over ranks of [.., W·B, ..], cut to our B rows. Outside autograd."""
    if group is None:
        return rows
    if dist.get_backend(group) == "nccl":
        return _reduce_scatter(rows, group, dim)
    total = all_reduce_sum_(rows.clone(memory_format=torch.contiguous_format), group)  # any backend has this one
    return total.chunk(world_size(group), dim)[rank(group)].contiguous()


def _reduce_scatter(rows: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    parts = [part.contiguous() for part in rows.chunk(world_size(group), dim)]
    ours = torch.empty_like(parts[0])
    dist.reduce_scatter(ours, parts, group=group)
    return ours


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: ProcessGroup, dim: int) -> Tensor:
        ctx.group, ctx.dim = group, dim
        return all_gather(rows, group, dim=dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return reduce_scatter_rows(gradients[0], ctx.group, dim=ctx.dim), None, None


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return all_reduce_sum_(values.clone(memory_format=torch.contiguous_format), group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return all_reduce_sum_(gradients[0].clone(memory_format=torch.contiguous_format), ctx.group), None
