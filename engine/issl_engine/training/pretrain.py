"""Pretraining of one encoder: build, loop, step.

views (DALI) → encoder → heads → objective → backward → optimiser step → metrics
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from issl_engine.data.dali import TrainingViews, check_views_fit
from issl_engine.data.sources.base import Dataset
from issl_engine.data.views import MultiCropBatch
from issl_engine.models.encoders.base import Encoder
from issl_engine.objectives.base import ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.optim.schedules import check_schedule, learning_rate
from issl_engine.probing.online import OnlineProbe
from issl_engine.recipe.schema import Recipe
from issl_engine.training.alarms import CollapseAlarm, DataAlarm, TrainingStopped, check_finite
from issl_engine.training.balance import Interval
from issl_engine.training.checkpoint import latest_checkpoint, read_manifest, restore_checkpoint, save_checkpoint
from issl_engine.training.contrastive_accumulation import contrastive_accumulation
from issl_engine.training.deepspeed import Engine, EngineSettings, Ranks
from issl_engine.training.interruption import Interrupted, stop_on_signals
from issl_engine.training.learner import Learner, LearnerEmbeddings, LearnerOutput
from issl_engine.training.metrics import MetricsLog
from issl_kernels import set_kernel_path
from issl_kernels.path import check_path_runs_on

_log = logging.getLogger("issl_engine")

OnLog = Callable[[dict[str, float], int], None]
"""Called with each logged record and the total number of steps: the progress display."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What follows from a recipe, the data and the ranks; written beside the recipe in resolved.yaml."""

    micro_batch_size: int
    loss_batch_size: int
    """Images a rank that one loss sees: those of one forward pass, or with exact_accumulation of all of a step."""
    steps_per_epoch: int
    total_steps: int
    checkpoint_every_steps: int
    peak_lr: float

    def progress(self, step: int) -> Progress:
        return Progress(step=step, steps_per_epoch=self.steps_per_epoch, total_steps=self.total_steps)


def make_plan(recipe: Recipe, dataset: Dataset, ranks: Ranks) -> Plan:
    """Raises ValueError when batch, data and ranks do not fit together."""
    training = recipe.training
    parts = ranks.world_size * training.accumulation_steps
    if training.global_batch_size % parts:
        raise ValueError(
            f"training.global_batch_size ({training.global_batch_size}) must be a multiple of ranks x "
            f"accumulation_steps ({ranks.world_size} x {training.accumulation_steps} = {parts})"
        )
    if recipe.online_probe is not None and dataset.pretrain is not None:
        raise ValueError(
            f"online_probe: {dataset.name} is pretrained on images without classes, so there is nothing to fit it on; "
            "set online_probe to null"
        )
    num_images = len(dataset.pretraining_images)
    if training.global_batch_size > num_images:
        split = "training split" if dataset.pretrain is None else "unlabelled images"
        raise ValueError(
            f"training.global_batch_size ({training.global_batch_size}) is larger than the {split} of "
            f"{dataset.name} ({num_images} images); make the batch smaller or the data larger"
        )
    steps_per_epoch = num_images // training.global_batch_size
    total_steps = max(1, round(training.epochs * steps_per_epoch))
    check_schedule(recipe.schedule, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    micro_batch_size = training.global_batch_size // parts
    return Plan(
        micro_batch_size=micro_batch_size,
        loss_batch_size=micro_batch_size * (training.accumulation_steps if training.exact_accumulation else 1),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        checkpoint_every_steps=max(1, round(recipe.checkpoint.every_epochs * steps_per_epoch)),
        peak_lr=recipe.optimizer.peak_lr(training.global_batch_size),
    )


def _log_waiting_images(recipe: Recipe, dataset: Dataset) -> None:
    num_images = len(dataset.pretraining_images)
    waiting = num_images % recipe.training.global_batch_size
    if waiting:
        _log.info(
            "%d of %d images wait for another epoch each time, as the last batch would be incomplete",
            waiting,
            num_images,
        )


def build_encoder(recipe: Recipe, seed: int) -> Encoder:
    """The encoder as pretraining with this seed starts from: also the untrained control."""
    torch.manual_seed(seed)
    return recipe.encoder.build(image_size=recipe.views.largest_size)


def build_learner(recipe: Recipe, plan: Plan, ranks: Ranks, seed: int) -> Learner:
    """Encoder and heads with the seed's weights, on this rank's device."""
    set_kernel_path(recipe.training.kernels)
    check_path_runs_on(ranks.device)
    encoder = build_encoder(recipe, seed)
    shape = ObjectiveShape(
        feature_dim=encoder.dim,
        num_views=recipe.views.num_views,
        num_global_views=recipe.views.num_global_views,
        batch_size=plan.loss_batch_size,
        world_size=ranks.world_size,
    )
    objective = recipe.objective.build(shape, ranks.group)
    learner = Learner(
        encoder,
        objective,
        num_global_views=recipe.views.num_global_views,
        channels_last=recipe.training.channels_last,
    ).to(ranks.device)
    if recipe.training.compile:
        learner.encoder.compile()
    if ranks.group is not None and recipe.training.sync_batch_norm:
        if ranks.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(learner)
        _log.info("batch-norm statistics are those of each rank: synchronised batch-norm needs GPUs")
    return learner


def build_views(
    recipe: Recipe, dataset: Dataset, plan: Plan, ranks: Ranks, *, seed: int, start_batch: int = 0
) -> TrainingViews:
    """This rank's loader, which gives crops in the type and memory order that the encoder takes."""
    training = recipe.training
    return TrainingViews(
        dataset.pretraining_images, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank,
        world_size=ranks.world_size, seed=seed, device=ranks.device, num_threads=recipe.data.decode_threads,
        prefetch_batches=recipe.data.prefetch_batches, start_batch=start_batch,
        dtype=torch.bfloat16 if training.precision == "bf16" else torch.float32,
        channels_last=training.channels_last, cache_bytes=recipe.data.cache_bytes,
    )  # fmt: skip


def build_engine(learner: Learner, recipe: Recipe, plan: Plan) -> Engine:
    """The learner under DeepSpeed with the recipe's optimiser. Raises ValueError for pairs that cannot work."""
    if recipe.optimizer.name == "larc" and recipe.deepspeed.zero_stage > 0:
        raise ValueError(
            "optimizer.name larc needs deepspeed.zero_stage 0: ZeRO flattens the layers whose norms LARC compares"
        )
    if learner.objective.rewrites_weights and recipe.deepspeed.zero_stage > 0:
        raise ValueError(
            f"objective {recipe.objective.name} needs deepspeed.zero_stage 0: it re-normalises prototypes after each "
            "step, which ZeRO's copies of them would not notice"
        )
    optimizer = recipe.optimizer.build(
        learner.trainable_parameters(), no_decay=learner.no_decay_parameters(), lr=plan.peak_lr
    )
    limit = recipe.training.clip_gradient_value
    if limit is not None:
        optimizer.register_step_pre_hook(lambda stepping, *_: _clip_values(stepping, limit))
    settings = EngineSettings(
        micro_batch_size=plan.micro_batch_size,
        accumulation_steps=recipe.training.accumulation_steps,
        zero_stage=recipe.deepspeed.zero_stage,
        precision=recipe.training.precision,
        clip_gradient_norm=recipe.training.clip_gradient_norm,
    )
    engine = Engine(learner, optimizer, settings)
    if recipe.training.channels_last and recipe.deepspeed.zero_stage == 0:
        # Only now: DeepSpeed's first broadcast takes weights in plain order; under ZeRO they are parts of one buffer.
        learner.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return engine


def _clip_values(optimizer: torch.optim.Optimizer, limit: float) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_value_(parameters, limit)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimiser step: mean loss of its forward passes and the last one's metrics (loss and metrics of all images
    with exact accumulation), seconds spent waiting for data."""

    loss: Tensor
    metrics: dict[str, Tensor]
    data_seconds: float


def train_step(
    engine: Engine,
    views: TrainingViews,
    online_probe: OnlineProbe | None,
    *,
    progress: Progress,
    lr: float,
    ranks: Ranks,
    accumulation_steps: int,
    exact_accumulation: bool = False,
) -> StepResult:
    """One optimiser step. Raises TrainingStopped, before any weight has changed, when the loss is not finite."""
    engine.set_lr(lr)
    if exact_accumulation and accumulation_steps > 1:
        return _exact_step(engine, views, online_probe, progress, ranks, accumulation_steps)
    data_seconds, loss, metrics = 0.0, torch.zeros((), device=ranks.device), {}
    for _ in range(accumulation_steps):
        asked = time.perf_counter()
        batch = next(views).to(ranks.device)
        data_seconds += time.perf_counter() - asked
        output: LearnerOutput = engine(batch, progress)
        check_finite(output.loss, batch.ids, progress, ranks)
        engine.backward(output.loss)
        engine.step()
        loss += output.loss.detach() / accumulation_steps
        metrics = dict(output.metrics)
        if online_probe is not None:
            probed = online_probe.step(output.z_BD, batch.labels)
            metrics |= {f"online_{name}": value for name, value in probed.items()}
    return StepResult(loss=loss, metrics=metrics, data_seconds=data_seconds)


def _exact_step(
    engine: Engine,
    views: TrainingViews,
    online_probe: OnlineProbe | None,
    progress: Progress,
    ranks: Ranks,
    accumulation_steps: int,
) -> StepResult:
    """The step whose loss compares the images of all its forward passes (training.exact_accumulation)."""
    learner = engine.module
    assert isinstance(learner, Learner)
    asked = time.perf_counter()
    batches = [next(views).to(ranks.device) for _ in range(accumulation_steps)]
    data_seconds = time.perf_counter() - asked
    ids = torch.cat([batch.ids for batch in batches])
    z_of_passes: list[Tensor] = []

    def embed(batch: MultiCropBatch) -> tuple[Tensor, ...]:
        output: LearnerEmbeddings = engine(batch, progress, True)
        z_of_passes.append(output.z_BD)
        return output.embeddings

    def compare(embeddings: tuple[Tensor, ...]) -> ObjectiveOutput:
        output = learner.objective.compare(embeddings, progress)
        check_finite(output.loss, ids, progress, ranks)
        return output

    def backward(partial: Tensor) -> None:
        engine.backward(partial, add_up=True)
        engine.step()

    loss, metrics, replay_error = contrastive_accumulation(
        batches, embed, compare, module=learner, dim=1, backward=backward
    )
    metrics = metrics | {"replay_error": replay_error}
    if online_probe is not None:
        for z_BD, batch in zip(z_of_passes[-accumulation_steps:], batches, strict=True):
            probed = online_probe.step(z_BD, batch.labels)
            metrics |= {f"online_{name}": value for name, value in probed.items()}
    return StepResult(loss=loss, metrics=metrics, data_seconds=data_seconds)


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
        _log_waiting_images(recipe, dataset)
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
