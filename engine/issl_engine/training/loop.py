"""The training loop.

views → train_step (encoder → heads → objective → backward → optimiser) → guard → line → checkpoint
"""

from collections.abc import Iterator
from pathlib import Path

from issl_engine.optim.rates import rates_at
from issl_engine.training.build import Training
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.lines import Lines
from issl_engine.training.plan import over_training_steps
from issl_engine.training.step import after_step, train_step
from issl_engine.training.watch.interruption import Interrupted, stop_on_signals
from issl_engine.training.watch.online_accuracy import OnlineAccuracy
from issl_engine.training.watch.watcher import Watcher
from issl_engine.views.batch import MultiCropBatch


def train(
    training: Training, views: Iterator[MultiCropBatch], *, watchers: Watcher, lines: Lines, saver: CheckpointSaver,
    first_step: int,
) -> Path | None:  # fmt: skip
    """All steps that are left; returns the last checkpoint, whole on the disk, or None where no step was left.

    Raises TrainingStopped, CheckpointError, and Interrupted after saving; each on all ranks, after the same step.
    """
    recipe, plan, ranks, engine = training.recipe, training.plan, training.ranks, training.engine
    to_probe = over_training_steps(recipe, plan.total_steps)
    guard, online_accuracy, saved = engine.guard, OnlineAccuracy(ranks), None
    training.learner.train()
    with stop_on_signals() as stop:
        for step in range(first_step, plan.total_steps):
            rates = rates_at(
                step, optimizer=recipe.optimizer, schedule=recipe.schedule, peak_lr=plan.peak_lr,
                steps_per_epoch=plan.steps_per_epoch, total_steps=plan.total_steps,
            )  # fmt: skip
            watchers.step_started(step + 1)
            with lines.step_timer:
                result = train_step(
                    engine, views, training.online_probe, progress=plan.progress(step), rates=rates, ranks=ranks,
                    accumulation_steps=recipe.training.accumulation_steps,
                    exact_accumulation=recipe.training.exact_accumulation, stopping=bool(stop) or saver.failed,
                )  # fmt: skip
                done = plan.progress(step + 1)
                after_step(engine, done, result)
            lines.add(result)
            watchers.step_done(done, result)

            last = done.step == plan.total_steps
            line_due = last or done.step % recipe.training.log_every_steps == 0
            save_due = last or done.step % plan.checkpoint_every_steps == 0 or done.step in to_probe
            guard.read(ranks, newest=line_due or save_due)
            if line_due:
                lines.write(done, result, rates)
            online_accuracy.add(result.metrics)

            # Several ranks must agree, and do by the guard's report of a step; one alone need not wait for it.
            stopping = guard.stop_requested or (ranks.group is None and (bool(stop) or saver.failed))
            if save_due or stopping:
                guard.read(ranks, newest=True)  # nothing is saved that the last step may have harmed
                watchers.saving()
                saved = saver.save(done, seconds=lines.seconds, finished=last, online_top1=online_accuracy.take())
            if last or stopping:
                saver.wait()  # raises, on all ranks, where a write failed on any
            if stopping and not last:
                raise Interrupted(
                    f"stopped by {stop.signal_name or 'another rank'} at step {done.step} of {plan.total_steps}; saved "
                    f"in {saved}; the same command goes on from there"
                )
    watchers.ended()
    return saved
