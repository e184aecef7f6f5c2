"""What diagnostics during training cost: steps that are measured and steps that are not, in turn."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from issl_engine.mistakes import Mistake
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics
from issl_profiling.results_file import MADE_BY, ResultsFile, significant
from issl_profiling.timing import Spread, spread, wait_for
from issl_profiling.train.case import TrainCase
from issl_profiling.train.our_training import OurTraining, cached_batches

WARMUP_STEPS = 3
COLUMNS = (
    "recipe", "arm", "views", "batch_size", "dim", "num_images", "interval_steps", "ms_per_step", "ms_measurement",
    "measured_over_step", "p20", "p80", "share_of_training", "pairs", *MADE_BY,
)  # fmt: skip
DIAGNOSTICS_FILE = ResultsFile(columns=COLUMNS, holds="bench diagnostics' lines")


@dataclass(frozen=True, kw_only=True)
class DiagnosticsCost:
    """Of one arm. Times are medians in milliseconds: of a plain step, and of a measurement by itself; ``ratios`` are
    those of each pair's measured step to its plain one."""

    case: TrainCase
    dim: int
    num_images: int
    interval_steps: int
    """Steps between two measurements: diagnostics.every_steps, or training.log_every_steps where that is more."""
    step_ms: float
    measurement_ms: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        return spread(list(self.ratios))

    @property
    def share(self) -> float:
        """Of the time of training: what a measurement adds to a step, over the steps that share it."""
        return (self.ratio.median - 1) / self.interval_steps

    def record(self) -> dict[str, Any]:
        """For DIAGNOSTICS_FILE."""
        ratio = self.ratio
        return {
            "recipe": self.case.recipe.name, "arm": self.case.arm, "views": self.case.loader.views_text,
            "batch_size": self.case.images_per_step, "dim": self.dim, "num_images": self.num_images,
            "interval_steps": self.interval_steps, "ms_per_step": significant(self.step_ms),
            "ms_measurement": significant(self.measurement_ms), "measured_over_step": significant(ratio.median),
            "p20": significant(ratio.p20), "p80": significant(ratio.p80), "share_of_training": significant(self.share),
            "pairs": len(self.ratios),
        }  # fmt: skip


def measure_cost(case: TrainCase, *, pairs: int) -> DiagnosticsCost:
    """Pairs of steps on crops that are there already, one of them measured; which of them comes first changes from pair
    to pair. Raises Mistake as pretraining does, and where diagnostics.every_steps is null."""
    config, training = case.recipe.diagnostics, case.recipe.training
    if config.every_steps is None:
        raise Mistake(f"{case.recipe.name}: diagnostics.every_steps is null, so there is nothing to time; set it")
    work = OurTraining(case, cached_batches(case))
    diagnostics = BatchDiagnostics(
        config, work.learner.objective, case.ranks, log_every_steps=training.log_every_steps,
        assigned_rows=case.plan.loss_batch_size * case.recipe.views.num_global_views,
    )  # fmt: skip
    try:
        for _ in range(WARMUP_STEPS):
            _timed(work, diagnostics)
        found: dict[bool, list[_Times]] = {True: [], False: []}
        for number in range(pairs):
            for measured in (number % 2 == 0, number % 2 == 1):
                found[measured].append(_timed(work, diagnostics if measured else None))
    finally:
        work.close()
    return DiagnosticsCost(
        case=case, dim=work.learner.encoder.dim, num_images=min(config.num_images, case.plan.micro_batch_size),
        interval_steps=max(config.every_steps, training.log_every_steps),
        step_ms=median(plain.step for plain in found[False]),
        measurement_ms=median(measured.measurement for measured in found[True]),
        ratios=tuple(
            (on.step + on.measurement) / off.step for on, off in zip(found[True], found[False], strict=True)
        ),
    )  # fmt: skip


class _Times(NamedTuple):
    """Of one step, in milliseconds, with what the device does of it."""

    step: float
    measurement: float


def _timed(work: OurTraining, diagnostics: BatchDiagnostics | None) -> _Times:
    device = work.case.ranks.device
    wait_for(device)
    started = time.perf_counter()
    work.step()
    wait_for(device)
    after_step = time.perf_counter()
    if diagnostics is not None:
        assert work.last_result is not None
        diagnostics.measure(work.last_result)
        wait_for(device)
    return _Times(1000 * (after_step - started), 1000 * (time.perf_counter() - after_step))
