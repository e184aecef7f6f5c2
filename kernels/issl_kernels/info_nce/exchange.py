"""How the targets of all ranks meet this rank's anchors: gathered at once, or passing by in a ring.

``gather`` holds all ranks' targets; their gradient is summed over ranks and cut back (reduce-scatter). ``ring`` holds
two ranks' targets at a time: while one block is compared, the next arrives, and on the way back each block carries its
gradient with it, so memory does not grow with the number of ranks (as Inf-CL does for CLIP, arXiv 2410.17243). Both
give the values and gradients of one process that holds all rows, up to rounding.

Letters: V views of the anchors, G of the targets, B images on this rank, N of all ranks, D width.
"""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, rank, reduce_scatter_rows, world_size
from issl_kernels.info_nce.contrast import Gradients, Rows

Exchange = Literal["gather", "ring"]


class Passing:
    """Tensors on their way to the next rank, and those that arrive from the one before."""

    def __init__(self, tensors: list[Tensor], group: ProcessGroup) -> None:
        size, here = world_size(group), rank(group)
        after, before = (dist.get_global_rank(group, (here + step) % size) for step in (1, -1))
        self._sent = [tensor.contiguous() for tensor in tensors]
        self._arriving = [torch.empty_like(tensor) for tensor in self._sent]
        operations = []
        for tag, (sent, arriving) in enumerate(zip(self._sent, self._arriving, strict=True)):
            operations.append(dist.P2POp(dist.isend, sent, after, group, tag))
            operations.append(dist.P2POp(dist.irecv, arriving, before, group, tag))
        self._pending = dist.batch_isend_irecv(operations)

    def wait(self) -> list[Tensor]:
        """The tensors that arrived. Those that were sent are released."""
        for work in self._pending:
            work.wait()
        self._sent, arrived = [], self._arriving
        self._arriving = []
        return arrived


def _tensors(targets: Rows) -> list[Tensor]:
    return [targets.rows] if targets.labels is None else [targets.rows, targets.labels]


def _blocks_in_a_ring(own: Rows, group: ProcessGroup) -> Iterator[Rows]:
    """Every rank's targets, ours first; the next block is on its way while one is used."""
    size, here, B = world_size(group), rank(group), own.rows.shape[1]
    at_hand = [own]  # popped, so that nothing holds a block whose turn is over
    for step in range(size):
        passing = Passing(_tensors(at_hand[0]), group) if step + 1 < size else None
        yield at_hand.pop()
        if passing is not None:
            at_hand.append(_arrived(passing.wait(), (here - step - 1) % size * B))


def _arrived(tensors: list[Tensor], first_image: int) -> Rows:
    rows, *labels = tensors
    return Rows(rows, labels[0] if labels else None, first_image)


def _gathered(own: Rows, group: ProcessGroup | None) -> Rows:
    labels = None if own.labels is None else all_gather(own.labels, group)
    return Rows(all_gather(own.rows, group, dim=1), labels, 0)


class Exchanged:
    """This rank's targets, and what there is of the others'."""

    def __init__(self, own: Rows, exchange: Exchange, group: ProcessGroup | None) -> None:
        self.in_a_ring = group is not None and exchange == "ring"
        self.group = group
        self.kept = own if self.in_a_ring else _gathered(own, group)
        """What a backward pass needs: all targets, or those of this rank, which a ring sends round once more."""

    def blocks(self) -> Iterator[Rows]:
        """Every rank's targets, in one block or one after another; let each go before the next is asked for."""
        if not self.in_a_ring:
            return iter([self.kept])
        assert self.group is not None
        return _blocks_in_a_ring(self.kept, self.group)


def exchanged_gradients(
    gradients: Gradients, anchors: Rows, kept: Rows, exchange: Exchange, group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """(of this rank's anchors from all targets, of this rank's targets from all ranks' anchors)."""
    if group is not None and exchange == "ring":
        return _gradients_in_a_ring(gradients, anchors, kept, group)
    d_anchors, d_all = gradients(anchors, kept)
    return d_anchors, reduce_scatter_rows(d_all, group, dim=1)


def _gradients_in_a_ring(gradients: Gradients, anchors: Rows, own: Rows, group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """Each block of targets takes its gradient along and is home again after as many steps as there are ranks."""
    d_anchors: Tensor | None = None
    travelling: Tensor | None = None
    for block in _blocks_in_a_ring(own, group):
        d_anchors_part, d_block = gradients(anchors, block)
        del block
        d_anchors = d_anchors_part if d_anchors is None else d_anchors.add_(d_anchors_part)
        d_block = d_block if travelling is None else d_block.add_(travelling)
        del d_anchors_part
        (travelling,) = Passing([d_block], group).wait()
        del d_block
    assert d_anchors is not None
    assert travelling is not None
    return d_anchors, travelling
