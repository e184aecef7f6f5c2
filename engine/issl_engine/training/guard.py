"""Leaves out the steps whose loss or gradients are not finite, on the device, and reports it to the host later.

Nothing here waits for the device. Each step a small report is added up over ranks,

    [|g|², ranks that were asked to stop, rank 0's loss is not finite, rank 1's, ...]

and what follows from it (whether the optimiser, batch-norm's statistics, queues and the teacher move) is computed from
it on the device. A copy of the report travels to the host meanwhile, which reads it one step later: every rank then
decides the same at the same step. On a CPU there is nothing to wait for, and it is read at once.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.models.guarded_buffers import GuardedBuffers
from issl_engine.objectives.base import Progress
from issl_engine.ranks import Ranks

_log = logging.getLogger("issl_engine")

OnNonFinite = Literal["stop", "skip"]

_SQUARE, _STOP, _FIRST_RANK = 0, 1, 2  # places in the report


class TrainingStopped(Mistake):
    """Loss or gradients are not finite: one sentence with the step, the images and the last good checkpoint."""


class GuardedEngine(Protocol):
    """What the guard needs of an engine, between the last backward pass of a step and the optimiser."""

    @property
    def gradients_are_whole(self) -> bool:
        """Whether every rank holds all gradients, or a slice of them."""

    def gradients(self) -> list[Tensor]:
        """Those that this rank holds; written in place, they are what the optimiser sees."""

    def leave_out_step_where(self, flag: Tensor) -> None:
        """The next optimiser step changes nothing if ``flag`` (scalar, float, on the device) is 1."""


class LossOfPass(NamedTuple):
    """``loss``: a detached scalar; ``ids_B``: the images of this rank that it is of."""

    loss: Tensor
    ids_B: Tensor


class Verdict(NamedTuple):
    """Scalars on the device. ``skipped``: 1 where the step is left out, else 0; ``gradient_norm``: global, over all
    parameters and ranks, before clipping."""

    skipped: Tensor
    gradient_norm: Tensor


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """What is done with a step that is not finite, and how long gradients may be."""

    on_non_finite: OnNonFinite
    max_skipped_steps: int
    clip_gradient_norm: float | None


@dataclass(frozen=True, kw_only=True)
class _Report:
    """A step's report on its way to the host. ``arrived`` is None where it is there already."""

    step: int
    values: Tensor
    arrived: torch.cuda.Event | None
    passes: Sequence[LossOfPass]

    def read(self) -> list[float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()


@dataclass
class StepGuard:
    """Of one training run on this rank: call ``begin`` and ``judge`` once per step, and ``read`` after it."""

    settings: GuardSettings
    buffers: GuardedBuffers
    stop_requested: bool = False
    """Whether, in the steps read so far, any rank was asked to stop."""
    _failed: Tensor | None = None
    _reports: list[_Report] = field(default_factory=list)
    _skipped_in_a_row: int = 0
    _unwarned: int = 0
    _warned: bool = False

    def begin(self) -> None:
        """Before a step's first forward pass."""
        self.buffers.save()

    @torch.no_grad()
    def judge(
        self, engine: GuardedEngine, passes: Sequence[LossOfPass], progress: Progress, ranks: Ranks, *, stopping: bool
    ) -> Verdict:
        """After the last backward pass, before the optimiser: decides on the device whether the step is made.

        Clips the gradients, has the optimiser do nothing if the step is left out, and puts the buffers back then.
        ``stopping``: whether this rank was asked to stop. Every rank must call it.
        """
        gradients = engine.gradients()
        report = self._report(engine, gradients, passes, ranks, stopping)
        square, own_losses = report[_SQUARE], report[_FIRST_RANK:]
        skipped = (~square.isfinite() | (own_losses.sum() > 0)).float()
        if self.settings.on_non_finite == "stop":
            # It stays set: steps that are launched before the host has read of it must change nothing either.
            skipped = skipped if self._failed is None else torch.maximum(self._failed, skipped)
            self._failed = skipped
        norm = square.sqrt()
        if self.settings.clip_gradient_norm is not None:
            factor = (self.settings.clip_gradient_norm / (norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        engine.leave_out_step_where(skipped)
        self.buffers.restore_where(skipped)
        self._reports.append(_sent_to_host(report, progress.step, passes))
        return Verdict(skipped, norm)

    def _report(
        self,
        engine: GuardedEngine,
        gradients: list[Tensor],
        passes: Sequence[LossOfPass],
        ranks: Ranks,
        stopping: bool,
    ) -> Tensor:
        report = torch.zeros(_FIRST_RANK + ranks.world_size, device=ranks.device)
        square = torch.stack(torch._foreach_norm(gradients)).square().sum()
        # Whole gradients are the same on all ranks; their slices under ZeRO add up to them.
        report[_SQUARE] = square / ranks.world_size if engine.gradients_are_whole else square
        report[_STOP] = float(stopping)
        losses = torch.stack([one.loss for one in passes])
        report[_FIRST_RANK + ranks.rank] = losses.isfinite().logical_not().any()
        if ranks.group is not None:
            dist.all_reduce(report, group=ranks.group)
        return report

    def read(self, ranks: Ranks, *, newest: bool) -> None:
        """Reads the reports of all steps; on a GPU that of the step launched last only with ``newest``, which waits.

        Raises TrainingStopped, on all ranks, for the first step that is not finite, or with "skip" for the last of
        max_skipped_steps in a row.
        """
        later = 0 if newest or ranks.device.type == "cpu" else 1
        due = self._reports[: len(self._reports) - later]
        self._reports = self._reports[len(due) :]
        for report in due:
            square, stop, *bad_losses = report.read()
            self.stop_requested |= stop > 0
            bad_ranks = [rank for rank, bad in enumerate(bad_losses) if bad]
            if math.isfinite(square) and not bad_ranks:
                self._skipped_in_a_row = 0
                continue
            self._note_failure(report.step, describe_failure(report.passes, bad_ranks, ranks))

    def take_skipped(self) -> int:
        """Steps left out that were read since the last call and not warned of yet."""
        count, self._unwarned = self._unwarned, 0
        return count

    def _note_failure(self, step: int, what: str) -> None:
        if self.settings.on_non_finite == "stop":
            raise TrainingStopped(f"step {step}: {what}; no weight was changed")
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self.settings.max_skipped_steps:
            raise TrainingStopped(
                f"step {step}: {what}; it was the last of {self._skipped_in_a_row} steps in a row that were left out "
                "(training.max_skipped_steps), and none of them changed a weight"
            )
        if self._warned:
            self._unwarned += 1
        else:
            self._warned = True
            _log.warning("step %d: %s; the step is left out (training.on_non_finite)", step, what)


def describe_failure(passes: Sequence[LossOfPass], bad_ranks: list[int], ranks: Ranks) -> str:
    """What was not finite, and for which images of this rank. It waits for the device: training has failed."""
    bad_passes = [one for one in passes if not math.isfinite(float(one.loss))]
    several = ranks.world_size > 1
    if bad_passes:
        what = f"the loss is {float(bad_passes[0].loss)}" + (f" on rank {ranks.rank}" if several else "")
    elif bad_ranks:
        return f"the loss is not finite on rank {bad_ranks[0]}, which names the images"
    else:
        what = "the loss is finite, but a gradient is not" + (" (of this rank or another)" if several else "")
    ids_B = torch.cat([one.ids_B for one in bad_passes or passes])
    ids = ", ".join(str(i) for i in ids_B[:16].tolist()) + (", ..." if len(ids_B) > 16 else "")
    return f"{what} for the images with ids {ids}"


def _sent_to_host(report: Tensor, step: int, passes: Sequence[LossOfPass]) -> _Report:
    if report.device.type == "cpu":
        return _Report(step=step, values=report, arrived=None, passes=passes)
    # Pinned memory: a copy to any other would wait for the device.
    values = torch.empty(report.shape, dtype=report.dtype, pin_memory=True)
    values.copy_(report, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return _Report(step=step, values=values, arrived=arrived, passes=passes)
