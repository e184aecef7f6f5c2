"""Makes small objectives in fp64, and what they are given."""

from typing import Any

import torch
from torch import Tensor

import issl_engine.objectives as objectives
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.variants import variants

from .small_objectives import SMALL

FEATURE_DIM, IMAGES, NUM_IMAGES = 6, 5, 13


def progress(step: int = 0) -> Progress:
    return Progress(step=step, steps_per_epoch=10, total_steps=100)


def shape(num_views: int = 2, *, images: int = IMAGES, global_views: int = 2, ranks: int = 1) -> ObjectiveShape:
    return ObjectiveShape(
        feature_dim=FEATURE_DIM,
        num_views=num_views,
        num_global_views=global_views,
        batch_size=images // ranks,
        world_size=ranks,
        num_images=NUM_IMAGES,
    )


def config(name: str, **changes: Any) -> ObjectiveConfig:
    return variants(objectives, ObjectiveConfig)[name].model_validate({"name": name} | SMALL[name].formula | changes)


def build(name: str, num_views: int = 2, *, images: int = IMAGES, **changes: Any) -> Objective:
    """One process's objective, seeded, in fp64."""
    torch.manual_seed(0)
    return config(name, **changes).build(shape(num_views, images=images), None).double()


def features(num_views: int = 2, *, images: int = IMAGES, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_views, images, FEATURE_DIM, generator=generator, dtype=torch.float64)


def teacher_output(objective: Objective, z_VBD: Tensor) -> Tensor | None:
    """Some other encoder's projection of the two global views, for the objectives that want one."""
    if not objective.uses_ema_teacher:
        return None
    generator = torch.Generator().manual_seed(99)
    noise = torch.randn(z_VBD[:2].shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return objective.projector(z_VBD[:2] + noise)


def image_ids(images: int) -> Tensor:
    """Places of the images of a batch in the training images, out of order."""
    return (2 * torch.arange(images) + 1) % NUM_IMAGES


def forward(
    objective: Objective, z_VBD: Tensor, teacher_GBP: Tensor | None = None, at: Progress | None = None,
    ids_B: Tensor | None = None,
) -> ObjectiveOutput:  # fmt: skip
    """The objective as the learner calls it, at the first step unless another is named."""
    ids = image_ids(z_VBD.shape[1]) if ids_B is None else ids_B
    return objective(z_VBD, teacher_GBP, at or progress(), *((ids,) if objective.uses_image_ids else ()))
