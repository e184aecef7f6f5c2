"""What a buffer holds over several ranks, declared where it is made, so that a run can resume on another number.

Letters: R ranks that saved, S ranks now; B rows per rank and forward pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from issl_engine.mistakes import Mistake

_RULES = "_rank_buffer_rules"


class BufferMismatchError(Mistake):
    """Buffers of several ranks that cannot become those of another number of ranks: the message is half a sentence,
    the reason."""


@dataclass(frozen=True)
class Identical:
    """Every rank holds the same values. ``declared`` is False for buffers without a rule, which are compared."""

    declared: bool = True

    def redistributed(self, saved: Sequence[Tensor], *, rank: int, world_size: int) -> Tensor:
        """The first rank's values."""
        if not self.declared and not all(value.equal(saved[0]) for value in saved):
            raise BufferMismatchError("differs from rank to rank, and nothing says how to make one of them")
        return saved[0]


@dataclass(frozen=True)
class Averaged:
    """Every rank holds its own estimate of one quantity, such as a mean over images. Whole numbers are counts that all
    ranks share."""

    def redistributed(self, saved: Sequence[Tensor], *, rank: int, world_size: int) -> Tensor:
        """The mean over the ranks that saved."""
        return torch.stack(tuple(saved)).mean(0) if saved[0].is_floating_point() else saved[0]


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """Rows of the last images along ``dim``, oldest first: of each forward pass every rank holds those of its own
    ``batch_size`` images. Joined and cut again in the order of the global batches, which loses nothing."""

    dim: int
    batch_size: int

    def redistributed(self, saved: Sequence[Tensor], *, rank: int, world_size: int) -> Tensor:
        """This rank's rows of the queue that the saved ones are shares of."""
        dim, rows = self.dim, saved[0].shape[self.dim]
        global_batch = self.batch_size * world_size
        saved_batch, left = divmod(global_batch, len(saved))
        if left or rows % saved_batch:
            raise BufferMismatchError(f"has {rows} rows on each of {len(saved)} ranks, which do not make whole batches")
        passes = rows // saved_batch
        by_pass = torch.stack([torch.unflatten(value, dim, (passes, saved_batch)) for value in saved], dim + 1)
        global_rows = by_pass.flatten(dim + 1, dim + 2)
        own = torch.unflatten(global_rows, dim + 1, (world_size, self.batch_size)).select(dim + 1, rank)
        return own.flatten(dim, dim + 1)


BufferRule = Identical | Averaged | ImageRows


def register_rank_buffer(module: nn.Module, name: str, value: Tensor | None, rule: BufferRule) -> None:
    """``module.register_buffer``, with what the buffer holds over several ranks."""
    module.register_buffer(name, value)
    module.__dict__.setdefault(_RULES, {})[name] = rule


def buffer_rules(module: nn.Module) -> Iterator[tuple[str, Tensor, BufferRule]]:
    """(name, buffer, rule) of all buffers of a module and its parts, each once.

    Batch-norm's statistics are estimates of each rank, whatever module holds them. A buffer without a rule, such as a
    table in an encoder of another library, counts as the same on every rank.
    """
    for name, buffer in module.named_buffers():
        path, _, own = name.rpartition(".")
        holder = module.get_submodule(path)
        rule: BufferRule = Averaged() if isinstance(holder, _BatchNorm) else Identical(declared=False)
        yield name, buffer, holder.__dict__.get(_RULES, {}).get(own, rule)
