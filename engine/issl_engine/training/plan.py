"""What follows from a recipe, the data and the ranks: batch of a forward pass, steps, peak learning rate."""

import logging
from dataclasses import dataclass

from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import Progress
from issl_engine.optim.schedules import check_schedule
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe, TrainingConfig
from issl_engine.sources.base import Dataset

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What follows from a recipe, the data and the ranks; written beside the recipe in resolved.yaml."""

    num_images: int
    """Images that pretraining sees."""
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
    """Raises Mistake when batch, data and ranks do not fit together."""
    training = recipe.training
    check_batch_size(training, ranks.world_size)
    if ranks.group is not None and training.watchdog_seconds >= ranks.timeout_seconds:
        raise Mistake(
            f"training.watchdog_seconds ({training.watchdog_seconds:g}) must be below the time limit of collectives "
            f"({ranks.timeout_seconds:g} s), which would end the ranks first and without a name; lower it, or set "
            "ISSL_RANKS_TIMEOUT_SECONDS in the environment to more"
        )
    if recipe.online_probe is not None and dataset.pretrain is not None:
        raise Mistake(
            f"online_probe: {dataset.name} is pretrained on images without classes, so there is nothing to fit it on; "
            "set online_probe to null"
        )
    num_images = len(dataset.pretraining_images)
    if training.global_batch_size > num_images:
        split = "training split" if dataset.pretrain is None else "unlabelled images"
        share = "" if dataset.places is None else f"training.image_share ({training.image_share:g}) of the "
        raise Mistake(
            f"training.global_batch_size ({training.global_batch_size}) is larger than {share or 'the '}{split} of "
            f"{dataset.name} ({num_images} images); make the batch smaller or the data larger"
        )
    steps_per_epoch = num_images // training.global_batch_size
    total_steps = max(1, round(training.epochs * steps_per_epoch))
    check_schedule(recipe.schedule, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    micro_batch_size = training.global_batch_size // (ranks.world_size * training.accumulation_steps)
    return Plan(
        num_images=num_images,
        micro_batch_size=micro_batch_size,
        loss_batch_size=micro_batch_size * (training.accumulation_steps if training.exact_accumulation else 1),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        checkpoint_every_steps=max(1, round(recipe.checkpoint.every_epochs * steps_per_epoch)),
        peak_lr=recipe.optimizer.peak_lr(training.global_batch_size),
    )


def over_training_steps(recipe: Recipe, total_steps: int) -> frozenset[int]:
    """The steps whose checkpoints are saved, and stay, for ``evaluation.over_training``; the last is among them."""
    count = recipe.evaluation.over_training
    return frozenset(max(1, round(total_steps * part / count)) for part in range(1, count + 1))


def check_batch_size(training: TrainingConfig, world_size: int) -> None:
    """Raises Mistake, with the nearest sizes that work, when a batch does not divide by ranks and accumulation.

    Commands ask this before they start ranks.
    """
    parts = world_size * training.accumulation_steps
    batch = training.global_batch_size
    if batch % parts == 0:
        return
    below = batch // parts * parts
    nearest = f"{below} or {below + parts}" if below >= 2 else str(below + parts)
    raise Mistake(
        f"training.global_batch_size ({batch}) must be a multiple of ranks x accumulation_steps "
        f"({world_size} x {training.accumulation_steps} = {parts}); the nearest that works is {nearest}"
    )


def log_waiting_images(recipe: Recipe, dataset: Dataset) -> None:
    """Says how many images each epoch leaves out, if any."""
    num_images = len(dataset.pretraining_images)
    waiting = num_images % recipe.training.global_batch_size
    if waiting:
        _log.info(
            "%d of %d images wait for another epoch each time, as the last batch would be incomplete",
            waiting,
            num_images,
        )
