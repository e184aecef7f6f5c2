"""Pretraining of a tiny encoder on images in memory: the engine's encoder, heads, teacher and loss, one process.

The loop is here, and not the engine's, because an experiment trains a hundred encoders for seconds each.

Letters: C equivalence classes, B images of a batch, H side of an image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.objectives.base import ObjectiveConfig, ObjectiveShape, Progress
from issl_engine.theory.world import Drawings
from issl_engine.training.learner import Learner
from issl_engine.views.batch import MultiCropBatch


class PretrainingConfig(Config):
    """Length, batch size and learning rate, the same for every encoder of an experiment."""

    steps: Annotated[int, Field(ge=1)] = 300
    """Optimiser steps."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images per step, each with two views."""
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate of Adam, which rises over the first tenth of the steps and then falls along a cosine."""


def pretrain(
    drawings: Drawings, invariant_F: Tensor, *, encoder: EncoderConfig, objective: ObjectiveConfig,
    pretraining: PretrainingConfig, image_size: int, seed: int,
) -> Encoder:  # fmt: skip
    """An encoder in evaluation mode, trained as pretrain_learner trains it."""
    learner = pretrain_learner(
        drawings, invariant_F, encoder=encoder, objective=objective, pretraining=pretraining, image_size=image_size,
        seed=seed,
    )  # fmt: skip
    return learner.encoder


def pretrain_learner(
    drawings: Drawings, invariant_F: Tensor, *, encoder: EncoderConfig, objective: ObjectiveConfig,
    pretraining: PretrainingConfig, image_size: int, seed: int,
    after_step: Callable[[int, Learner], None] = lambda step, learner: None,
) -> Learner:  # fmt: skip
    """Encoder and heads in evaluation mode, trained on pairs of views: two images of one equivalence class.

    ``invariant_F`` int64 [F]: the class of each finest class of ``drawings``. ``after_step`` is called with the number
    of steps done and the learner, and must leave it in training mode. Raises Mistake where the loss becomes NaN or
    infinite.
    """
    torch.manual_seed(seed)
    built = encoder.build(image_size=image_size)
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = pretraining.batch_size
    shape = ObjectiveShape(feature_dim=built.dim, num_views=2, num_global_views=2, batch_size=size)
    learner = Learner(built, objective.build(shape, None), num_global_views=2, channels_last=True)
    learner.train()
    parameters = [parameter for _, parameter in learner.trainable_parameters()]
    optimizer = torch.optim.Adam(parameters, lr=pretraining.lr, fused=True)  # one pass over all weights: 8 % faster
    images = drawings.images
    members = _members(drawings, invariant_F)
    generator = torch.Generator().manual_seed(seed)
    for step in range(pretraining.steps):
        for group in optimizer.param_groups:
            group["lr"] = pretraining.lr * _schedule(step / pretraining.steps)
        batch = _views(images, members, size, generator)
        progress = Progress(step=step, steps_per_epoch=pretraining.steps, total_steps=pretraining.steps)
        loss: Tensor = learner(batch, progress).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        learner.after_step(Progress(step=step + 1, steps_per_epoch=pretraining.steps, total_steps=pretraining.steps))
        after_step(step + 1, learner)
    if not math.isfinite(loss.item()):
        raise Mistake(f"the loss of {objective.name} became {loss.item()}; lower pretraining.lr")
    return learner.eval()


@dataclass(frozen=True, kw_only=True)
class EvaluatedLoss:
    """``loss``: mean over the batches, in nats; ``class_TB`` int64 [batches, B]: the classes of their images."""

    loss: float
    class_TB: Tensor


@torch.no_grad()
def evaluate_loss(
    learner: Learner, drawings: Drawings, invariant_F: Tensor, *, batch_size: int, batches: int, seed: int
) -> EvaluatedLoss:
    """The objective's loss on batches as training draws them, with the batch-norms' running statistics. The learner's
    mode is left as it was."""
    was_training, members = learner.training, _members(drawings, invariant_F)
    learner.eval()
    generator = torch.Generator().manual_seed(seed)
    losses, classes = [], []
    for _ in range(batches):
        batch = _views(drawings.images, members, batch_size, generator)
        # The ramps of a schedule are over: the loss is that of the last step.
        losses.append(learner(batch, Progress(step=batches, steps_per_epoch=1, total_steps=batches)).loss.double())
        classes.append(batch.labels)
    learner.train(was_training)
    return EvaluatedLoss(loss=float(torch.stack(losses).mean()), class_TB=torch.stack(classes))


def _members(drawings: Drawings, invariant_F: Tensor) -> list[Tensor]:
    """The images of each class."""
    return [(invariant_F[drawings.finest] == c).nonzero().flatten() for c in range(int(invariant_F.max()) + 1)]


def _schedule(fraction: float) -> float:
    """The learning rate as a share of its peak."""
    return min(1.0, 0.1 + 9 * fraction) * 0.5 * (1 + math.cos(math.pi * fraction))


def _views(images: Tensor, members: list[Tensor], size: int, generator: torch.Generator) -> MultiCropBatch:
    """Two views of ``size`` images whose classes are drawn evenly; labels are their classes, which no loss reads."""
    class_B = torch.randint(len(members), (size,), generator=generator)
    first, second = torch.empty(size, dtype=torch.int64), torch.empty(size, dtype=torch.int64)
    for c, places in enumerate(members):
        rows = (class_B == c).nonzero().flatten()
        for chosen in (first, second):
            chosen[rows] = places[torch.randint(len(places), (len(rows),), generator=generator)]
    return MultiCropBatch(crops=(torch.stack([images[first], images[second]]),), ids=first, labels=class_B)


@torch.no_grad()
def encode(encoder: nn.Module, drawings: Drawings) -> Tensor:
    """Representations float32 [N, d] of all images, in their order."""
    return torch.cat([encoder(images) for images in drawings.images.split(512)])
