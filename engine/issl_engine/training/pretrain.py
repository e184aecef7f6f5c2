"""Pretraining of one encoder: resume, loop, log, save.

views (DALI) → encoder → heads → objective → backward → optimiser step → metrics
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch

from issl_engine.loading import check_views_fit
from issl_engine.objectives.base import Progress
from issl_engine.optim.schedules import learning_rate
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner, build_online_probe, build_views
from issl_engine.training.checkpoints.manifest import read_manifest
from issl_engine.training.checkpoints.restore import restore_checkpoint
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.checkpoints.verify import agreed_latest_checkpoint, latest_checkpoint
from issl_engine.training.deepspeed import Engine
from issl_engine.training.learner import Learner
from issl_engine.training.metrics import MetricsLog
from issl_engine.training.plan import Plan, log_waiting_images, make_plan
from issl_engine.training.step import StepResult, after_step, train_step
from issl_engine.training.watch.alarms import DataAlarm, TrainingStopped, collapse_alarm
from issl_engine.training.watch.balance import Interval
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics
from issl_engine.training.watch.heartbeat import Heartbeat, WatchedViews
from issl_engine.training.watch.interruption import Interrupted, StopRequest, stop_on_signals
from issl_engine.training.watch.online_accuracy import OnlineAccuracy
from issl_engine.training.watch.representation_alarm import GENERAL_ADVICE, RepresentationAlarm
from issl_engine.training.watch.slow_ranks import OwnWork, SlowRankAlarm
from issl_engine.training.watch.watchdog import OnHung, Watchdog

_log = logging.getLogger("issl_engine")

OnLog = Callable[[dict[str, float], int], None]
"""Called with each logged record and the total number of steps: the progress display."""


def pretrain(
    recipe: Recipe,
    dataset: Dataset,
    ranks: Ranks,
    *,
    folder: Path,
    seed: int,
    on_log: OnLog | None = None,
    on_hung: OnHung | None = None,
) -> Path:
    """Trains (or goes on training) in ``folder`` and returns the last checkpoint.

    Interrupted + resumed gives the weights of an uninterrupted run, bit for bit on CPU. Raises ValueError for what
    does not fit, TrainingStopped for losses or gradients that are not finite, CheckpointError, and Interrupted after
    saving. A training that hangs ends the process (training/watchdog.py), once ``on_hung`` was told why.
    """
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    plan = make_plan(recipe, dataset, ranks)
    check_views_fit(dataset.pretraining_images, recipe.views)
    checkpoints = folder / "checkpoints"
    found = agreed_latest_checkpoint(checkpoints, ranks)
    if found is not None and read_manifest(found).finished:
        _log.info("%s is already trained", folder)
        return found
    if ranks.is_first:
        log_waiting_images(recipe, dataset)
    learner = build_learner(recipe, plan, ranks, seed)
    online_probe = build_online_probe(recipe, dataset, learner, ranks)
    engine = build_engine(learner, recipe, plan)
    step, seconds = 0, 0.0
    if found is not None:
        manifest = restore_checkpoint(found, engine=engine, learner=learner, online_probe=online_probe, ranks=ranks)
        step, seconds = manifest.step, manifest.seconds
        _log.info("resumed from %s at step %d of %d", found, step, plan.total_steps)
    run = _Run(recipe, plan, ranks, learner, engine, online_probe, folder, seed, seconds, on_log)
    watchdog = Watchdog(
        run.heartbeat, seconds=recipe.training.watchdog_seconds, rank=ranks.rank, world_size=ranks.world_size,
        host=ranks.host, store=ranks.store, last_checkpoint=lambda: latest_checkpoint(checkpoints), on_hung=on_hung,
    )  # fmt: skip
    try:
        with watchdog:
            return run.train(dataset, first_step=step)
    except TrainingStopped as error:
        good = latest_checkpoint(checkpoints)
        raise TrainingStopped(
            f"{error}; last good checkpoint: {good or 'none yet'}; lower optimizer.lr, clip gradients "
            "(training.clip_gradient_norm), look at those images or leave such steps out (training.on_non_finite=skip)"
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
        self.checkpoints = CheckpointSaver(
            folder / "checkpoints", recipe=recipe, seed=seed, engine=engine, learner=learner,
            online_probe=online_probe, ranks=ranks,
        )  # fmt: skip
        self.online_accuracy = OnlineAccuracy(ranks)
        self.alarm = collapse_alarm(learner.objective)
        self.representation_alarm = RepresentationAlarm(
            learner.objective.diversity_advice or learner.objective.collapse_advice or GENERAL_ADVICE,
            warmup_epochs=recipe.schedule.warmup_epochs,
        )
        self.heartbeat = Heartbeat()
        self.own_work = OwnWork(learner.encoder, ranks.device, compiled=recipe.training.compile)
        learner.own_work = self.own_work
        self.slow_ranks = SlowRankAlarm(ranks)
        self.diagnostics = BatchDiagnostics(
            recipe.diagnostics, learner.objective, ranks, log_every_steps=recipe.training.log_every_steps,
            assigned_rows=plan.loss_batch_size * ranks.world_size * recipe.views.num_global_views,
        )  # fmt: skip

    def train(self, dataset: Dataset, *, first_step: int) -> Path:
        """All remaining steps; returns the final checkpoint."""
        recipe, plan, ranks = self.recipe, self.plan, self.ranks
        accumulation = recipe.training.accumulation_steps
        loader = build_views(recipe, dataset, plan, ranks, seed=self.seed, start_batch=first_step * accumulation)
        views = WatchedViews(loader, self.heartbeat)
        log = MetricsLog(self.folder, resume_step=first_step) if ranks.is_first else None
        interval, data_alarm = Interval(recipe.training.global_batch_size, ranks.device), DataAlarm(recipe.data)
        self.learner.train()
        saved, guard = self.folder, self.engine.guard
        try:
            with stop_on_signals() as stop:
                for step in range(first_step, plan.total_steps):
                    lr = self._lr(step)
                    self.heartbeat.enter("step", step + 1)
                    with interval.step_timer:
                        result = train_step(
                            self.engine, views, self.online_probe, progress=plan.progress(step), lr=lr, ranks=ranks,
                            accumulation_steps=accumulation, exact_accumulation=recipe.training.exact_accumulation,
                            stopping=self._must_stop(stop),
                        )  # fmt: skip
                        done = plan.progress(step + 1)
                        after_step(self.engine, done, result)
                    interval.add(result.loss, result.data_seconds, result.skipped)
                    if done.epoch > 1:  # before, frozen prototypes and warm-up keep a healthy loss near that value
                        self.alarm.note(self.alarm.watched(result.metrics, result.loss), done.step)
                    last = done.step == plan.total_steps
                    log_due = last or done.step % recipe.training.log_every_steps == 0
                    save_due = last or done.step % plan.checkpoint_every_steps == 0
                    guard.read(ranks, newest=log_due or save_due)
                    if log_due:
                        self._log(log, interval, data_alarm, result, done, lr)
                    self.online_accuracy.add(result.metrics)
                    # Several ranks must agree, and do by the guard's report of a step; one alone need not wait for it.
                    stopping = guard.stop_requested or (ranks.group is None and self._must_stop(stop))
                    if save_due or stopping:
                        guard.read(ranks, newest=True)  # nothing is saved that the last step may have harmed
                        self.heartbeat.enter("checkpoint")
                        saved = self._save(done, finished=last, wait=last or stopping)
                    if stopping and not last:
                        raise Interrupted(
                            f"stopped by {stop.signal_name or 'another rank'} at step {done.step} of "
                            f"{plan.total_steps}; saved in {saved}; the same command goes on from there"
                        )
            self.heartbeat.enter("end")
        finally:
            views.close()
            self.checkpoints.close()
            if log is not None:
                log.close()
        return saved

    def _must_stop(self, stop: StopRequest) -> bool:
        return bool(stop) or self.checkpoints.failed

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

    def _log(
        self,
        log: MetricsLog | None,
        interval: Interval,
        data_alarm: DataAlarm,
        result: StepResult,
        done: Progress,
        lr: float,
    ) -> None:
        """Here the host waits for the device, and reads what has gathered there since the last line."""
        self.alarm.review()
        more = self.engine.guard.take_skipped()
        if more and log is not None:
            _log.warning("step %d: %d more steps were left out, as loss or gradients were not finite", done.step, more)
        if interval.all_skipped():
            return  # the next line tells of these steps too
        skipped = int(interval.skipped)
        self.slow_ranks.observe(interval.data_seconds, self.own_work.take(), done.step)
        record = interval.close(done, lr)
        is_last = done.step == self.plan.total_steps
        measured = self.diagnostics.measure(result) if self.diagnostics.is_due(done.step, last=is_last) else {}
        if log is None:
            return
        data_alarm.observe(record["data_fraction"], done.step)
        record["seconds"] = self._seconds()
        if self.learner.objective.collapse_loss is not None:
            record["collapse_loss"] = self.learner.objective.collapse_loss
        if self.recipe.training.on_non_finite == "skip":
            record["skipped_steps"] = skipped
        if not float(result.skipped):
            record |= {name: float(value) for name, value in result.metrics.items()}
        record |= measured
        self.representation_alarm.observe(record)
        log.write(record)
        if self.on_log is not None:
            self.on_log(record, self.plan.total_steps)

    def _save(self, done: Progress, *, finished: bool, wait: bool) -> Path:
        """Raises CheckpointError on all ranks when the write before, or with ``wait`` this one, failed on any."""
        saved = self.checkpoints.save(
            done, seconds=self._seconds(), finished=finished, online_top1=self.online_accuracy.take()
        )
        if wait:
            self.checkpoints.wait()
        return saved
