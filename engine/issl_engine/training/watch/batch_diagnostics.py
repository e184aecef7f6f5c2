"""Diagnostics of the batch at a logged line: gathered over ranks, measured by the first on its host.

No step waits for them, as they are made where the host waits for the device anyway; they draw no random number and
change no weight. Letters: G global views, B images on this rank, N of all ranks, D width of the representation.
"""

from issl_engine.measures.assignment_use import assignment_use
from issl_engine.measures.batch import batch_measures
from issl_engine.measures.config import DiagnosticsConfig
from issl_engine.objectives.base import AssignmentMetrics, Objective
from issl_engine.ranks import Ranks
from issl_engine.training.step import StepResult
from issl_engine.training.watch.watcher import Line, Watcher
from issl_kernels.collectives import all_gather

PREFIX = "diagnostics."
"""Begins the keys of metrics.jsonl that hold a measure."""


class BatchDiagnostics(Watcher):
    """Says at which lines measures are due, and makes them."""

    def __init__(
        self, config: DiagnosticsConfig, objective: Objective, ranks: Ranks, *, log_every_steps: int,
        assigned_rows: int,
    ) -> None:  # fmt: skip
        self.config, self.ranks = config, ranks
        self.log_every_steps = log_every_steps
        self.assignment_metrics: AssignmentMetrics | None = objective.assignment_metrics
        self.assigned_rows = assigned_rows
        """Rows that one loss assigns to classes: images of all ranks times global views."""

    def measures(self, line: Line) -> dict[str, float]:
        return self.measure(line.result) if self.is_due(line.done.step, last=line.is_last) else {}

    def is_due(self, step: int, *, last: bool) -> bool:
        """Whether the line after ``step`` steps is the first at or after a multiple of every_steps, or the run's last.

        It depends on the step alone, so that a resumed run measures where an uninterrupted one does."""
        every = self.config.every_steps
        return every is not None and (last or step // every > (step - self.log_every_steps) // every)

    def measure(self, result: StepResult) -> dict[str, float]:
        """Keys of the line → values, in the first rank; every rank must call it. Waits for the device."""
        if float(result.skipped):
            return {}  # what was left out may be NaN
        per_rank = min(result.z_GBD.shape[1], -(-self.config.num_images // self.ranks.world_size))
        z_GND = all_gather(result.z_GBD[:, :per_rank].float(), self.ranks.group, dim=1)
        if not self.ranks.is_first or z_GND.shape[1] < 2:
            return {}
        measures = batch_measures(z_GND[:, : self.config.num_images].cpu())
        if self.assignment_metrics is not None:
            logged = {name: float(value) for name, value in result.metrics.items()}
            measures |= assignment_use(logged, self.assignment_metrics, self.assigned_rows)
        return {PREFIX + name: value for name, value in measures.items()}
