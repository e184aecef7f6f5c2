"""Pretraining of one encoder: resume, loop, log, save.

views (DALI) → encoder → heads → objective → backward → optimiser step → metrics
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from issl_engine.data.dali import check_views_fit
from issl_engine.data.sources.base import Dataset
from issl_engine.objectives.base import Progress
from issl_engine.optim.schedules import learning_rate
from issl_engine.probing.online import OnlineProbe
from issl_engine.recipe.schema import Recipe
from issl_engine.training.alarms import CollapseAlarm, DataAlarm, TrainingStopped
from issl_engine.training.balance import Interval
from issl_engine.training.build import build_engine, build_learner, build_views
from issl_engine.training.checkpoint import latest_checkpoint, read_manifest, restore_checkpoint, save_checkpoint
from issl_engine.training.deepspeed import Engine, Ranks
from issl_engine.training.interruption import Interrupted, stop_on_signals
from issl_engine.training.learner import Learner
from issl_engine.training.metrics import MetricsLog
from issl_engine.training.plan import Plan, log_waiting_images, make_plan
from issl_engine.training.step import train_step

_log = logging.getLogger("issl_engine")

OnLog = Callable[[dict[str, float], int], None]
"""Called with each logged record and the total number of steps: the progress display."""


def pretrain(
    recipe: Recipe, dataset: Dataset, ranks: Ranks, *, folder: Path, seed: int, on_log: OnLog | None = None
) -> Path:
    """Trains (or goes on training) in ``folder`` and returns the last checkpoint.

    Interrupted + resumed gives the weights of an uninterrupted run, bit for bit on CPU. Raises ValueError for what
    does not fit, TrainingStopped for a loss that is not finite, CheckpointError, and Interrupted after saving.
    """
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    plan = make_plan(recipe, dataset, ranks)
    check_views_fit(dataset.pretraining_images, recipe.views)
    checkpoints = folder / "checkpoints"
    found = latest_checkpoint(checkpoints)
    if found is not None and read_manifest(found).finished:
        _log.info("%s is already trained", folder)
        return found
    if ranks.is_first:
        log_waiting_images(recipe, dataset)
    learner = build_learner(recipe, plan, ranks, seed)
    online_probe = None
    if recipe.online_probe is not None:
        online_probe = OnlineProbe(
            learner.encoder.dim, dataset.num_classes, lr=recipe.online_probe.lr, group=ranks.group
        ).to(ranks.device)
    engine = build_engine(learner, recipe, plan)
    step, seconds = 0, 0.0
    if found is not None:
        manifest = restore_checkpoint(found, engine=engine, learner=learner, online_probe=online_probe, ranks=ranks)
        step, seconds = manifest.step, manifest.seconds
        _log.info("resumed from %s at step %d of %d", found, step, plan.total_steps)
    run = _Run(recipe, plan, ranks, learner, engine, online_probe, folder, seed, seconds, on_log)
    try:
        return run.train(dataset, first_step=step)
    except TrainingStopped as error:
        good = latest_checkpoint(checkpoints)
        raise TrainingStopped(
            f"{error}; last good checkpoint: {good or 'none yet'}; lower optimizer.lr, clip gradients "
            "(training.clip_gradient_norm) or look at those images"
        ) from error
    finally:
        engine.close()


class _Run:
    """The loop's state: what it saves, logs and watches."""

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        ranks: Ranks,
        learner: Learner,
        engine: Engine,
        online_probe: OnlineProbe | None,
        folder: Path,
        seed: int,
        seconds: float,
        on_log: OnLog | None,
    ) -> None:
        self.recipe, self.plan, self.ranks = recipe, plan, ranks
        self.learner, self.engine, self.online_probe = learner, engine, online_probe
        self.folder, self.seed, self.on_log = folder, seed, on_log
        self.earlier_seconds = seconds
        self.started = time.perf_counter()
        self.alarm = CollapseAlarm(learner.objective.collapse_loss, learner.objective.collapse_advice)

    def train(self, dataset: Dataset, *, first_step: int) -> Path:
        """All remaining steps; returns the final checkpoint."""
        recipe, plan, ranks = self.recipe, self.plan, self.ranks
        accumulation = recipe.training.accumulation_steps
        views = build_views(recipe, dataset, plan, ranks, seed=self.seed, start_batch=first_step * accumulation)
        log = MetricsLog(self.folder, resume_step=first_step) if ranks.is_first else None
        interval, data_alarm = Interval(recipe.training.global_batch_size, ranks.device), DataAlarm(recipe.data)
        self.learner.train()
        saved = self.folder
        try:
            with stop_on_signals() as stop:
                for step in range(first_step, plan.total_steps):
                    lr = self._lr(step)
                    with interval.step_timer:
                        result = train_step(
                            self.engine, views, self.online_probe, progress=plan.progress(step), lr=lr, ranks=ranks,
                            accumulation_steps=accumulation, exact_accumulation=recipe.training.exact_accumulation,
                        )  # fmt: skip
                    done = plan.progress(step + 1)
                    self.learner.after_step(done)
                    self.engine.take_over(self.learner.objective.rewritten_weights())
                    interval.add(float(result.loss), result.data_seconds)
                    if done.epoch > 1:  # before, frozen prototypes and warm-up keep a healthy loss near that value
                        self.alarm.observe(float(result.loss), step + 1)
                    last = done.step == plan.total_steps
                    if log is not None and (done.step % recipe.training.log_every_steps == 0 or last):
                        record = interval.close(done, lr)
                        data_alarm.observe(record["data_fraction"], done.step)
                        self._log(log, record, result.metrics)
                    stopping = ranks.any(bool(stop))
                    if last or stopping or done.step % plan.checkpoint_every_steps == 0:
                        saved = self._save(done, finished=last)
                    if stopping and not last:
                        raise Interrupted(
                            f"stopped by {stop.signal_name or 'another rank'} at step {done.step} of "
                            f"{plan.total_steps}; saved in {saved}; the same command goes on from there"
                        )
        finally:
            views.close()
            if log is not None:
                log.close()
        return saved

    def _lr(self, step: int) -> float:
        return learning_rate(
            step,
            peak_lr=self.plan.peak_lr,
            schedule=self.recipe.schedule,
            steps_per_epoch=self.plan.steps_per_epoch,
            total_steps=self.plan.total_steps,
        )

    def _seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self.started

    def _log(self, log: MetricsLog, record: dict[str, float], metrics: dict[str, Tensor]) -> None:
        record["seconds"] = self._seconds()
        if self.alarm.collapse_loss is not None:
            record["collapse_loss"] = self.alarm.collapse_loss
        record |= {name: float(value) for name, value in metrics.items()}
        log.write(record)
        if self.on_log is not None:
            self.on_log(record, self.plan.total_steps)

    def _save(self, progress: Progress, *, finished: bool) -> Path:
        return save_checkpoint(
            self.folder / "checkpoints", engine=self.engine, learner=self.learner, online_probe=self.online_probe,
            ranks=self.ranks, recipe=self.recipe, seed=self.seed, step=progress.step, epoch=progress.epoch,
            seconds=self._seconds(), finished=finished, keep=self.recipe.checkpoint.keep,
        )  # fmt: skip
