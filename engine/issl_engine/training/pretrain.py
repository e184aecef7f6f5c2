"""Pretraining of one encoder: what is there is found or built, and the loop (loop.py) does the rest."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from issl_engine.layout import CHECKPOINTS
from issl_engine.loading import check_views_fit
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_training, build_views
from issl_engine.training.checkpoints.manifest import read_manifest
from issl_engine.training.checkpoints.restore import restore_checkpoint
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.checkpoints.verify import agreed_latest_checkpoint, latest_checkpoint
from issl_engine.training.guard import TrainingStopped
from issl_engine.training.lines import Lines, OnLog
from issl_engine.training.loop import train
from issl_engine.training.plan import Plan, log_waiting_images, make_plan, over_training_steps
from issl_engine.training.watch.heartbeat import Heartbeat, WatchedViews
from issl_engine.training.watch.watchdog import OnHung, Watchdog
from issl_engine.training.watch.watchers import build_watchers

_log = logging.getLogger("issl_engine")


def pretrain(
    recipe: Recipe,
    dataset: Dataset,
    ranks: Ranks,
    *,
    folder: Path,
    seed: int,
    plan: Plan | None = None,
    on_log: OnLog | None = None,
    on_hung: OnHung | None = None,
) -> Path:
    """Trains (or goes on training) in ``folder`` and returns the last checkpoint.

    Interrupted + resumed gives the weights of an uninterrupted run, bit for bit on CPU. ``plan``: what ``make_plan``
    gives, where the caller has made it already. Raises Mistake for what does not fit, TrainingStopped for losses or
    gradients that are not finite, CheckpointError, and Interrupted after saving. A training that hangs ends the process
    (watch/watchdog.py), once the reason was reported to ``on_hung``.
    """
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    plan = plan or make_plan(recipe, dataset, ranks)
    check_views_fit(dataset.pretraining_images, recipe.views)
    checkpoints = folder / CHECKPOINTS
    found = agreed_latest_checkpoint(checkpoints, ranks)
    if found is not None and read_manifest(found).finished:
        _log.info("%s is already trained", folder)
        return found
    if ranks.is_first:
        log_waiting_images(recipe, dataset)
    training = build_training(recipe, dataset, plan, ranks, seed)
    learner, engine, online_probe = training.learner, training.engine, training.online_probe
    with closing(engine), _advice_where_training_stops(checkpoints):
        step, seconds = 0, 0.0
        if found is not None:
            manifest = restore_checkpoint(found, engine=engine, learner=learner, online_probe=online_probe, ranks=ranks)
            step, seconds = manifest.step, manifest.seconds
            _log.info("resumed from %s at step %d of %d", found, step, plan.total_steps)
        began = time.perf_counter() - seconds
        saver = CheckpointSaver(
            checkpoints, recipe=recipe, seed=seed, engine=engine, learner=learner, online_probe=online_probe,
            ranks=ranks, keep_steps=over_training_steps(recipe, plan.total_steps),
        )  # fmt: skip
        heartbeat = Heartbeat()
        watchers = build_watchers(training, heartbeat)
        watchdog = Watchdog(
            heartbeat, seconds=recipe.training.watchdog_seconds, rank=ranks.rank, world_size=ranks.world_size,
            host=ranks.host, store=ranks.store, last_checkpoint=lambda: latest_checkpoint(checkpoints), on_hung=on_hung,
        )  # fmt: skip
        loader_start = step * recipe.training.accumulation_steps
        with (
            watchdog,
            closing(saver),
            closing(build_views(recipe, dataset, plan, ranks, seed=seed, start_batch=loader_start)) as views,
            closing(Lines(training, watchers, folder=folder, first_step=step, began=began, on_log=on_log)) as lines,
        ):
            last = train(
                training, WatchedViews(views, heartbeat), watchers=watchers, lines=lines, saver=saver, first_step=step
            )
        return last or folder  # a recipe that was made shorter has no step left: its newest checkpoint is in the folder


@contextmanager
def _advice_where_training_stops(checkpoints: Path) -> Iterator[None]:
    """Adds to TrainingStopped what is saved, and what may help."""
    try:
        yield
    except TrainingStopped as error:
        good = latest_checkpoint(checkpoints)
        raise TrainingStopped(
            f"{error}; last good checkpoint: {good or 'none yet'}; lower optimizer.lr, clip gradients "
            "(training.clip_gradient_norm), look at those images or leave such steps out (training.on_non_finite=skip)"
        ) from error
