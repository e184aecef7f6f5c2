"""Small objectives in fp64, with every setting that a formula needs spelt out."""

from typing import Any

import torch
from torch import Tensor

import issl_engine.objectives as objectives
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.variants import variants

FEATURE_DIM, IMAGES, NUM_IMAGES = 6, 5, 13

SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"hidden_dim": 7, "projection_dim": 4, "temperature": 0.3},
    "cissl": {"hidden_dim": 7, "projection_dim": 4, "temperature": 0.2},
    "swav": {"hidden_dim": 7, "projection_dim": 4, "num_prototypes": 8, "freeze_prototypes_steps": 0},
    "dino": {"hidden_dim": 7, "bottleneck_dim": 4, "num_prototypes": 9, "freeze_last_layer_epochs": 0},
    "dissl": {"hidden_dim": 7, "bottleneck_dim": 4, "num_classes": 9},
    "barlow_twins": {"hidden_dim": 7, "projection_dim": 4, "off_diagonal_weight": 0.3},
    "vicreg": {"hidden_dim": 7, "projection_dim": 4},
    "byol": {"hidden_dim": 7, "projection_dim": 4},
    "simsiam": {"hidden_dim": 7, "projection_dim": 4, "predictor_hidden_dim": 3},
    "ssl_hsic": {"kernel_scale": 0.7, "hidden_dim": 7, "projection_dim": 4},
    "matrix_ssl": {"hidden_dim": 7, "projection_dim": 4, "predictor_hidden_dim": 7},
    "sem": {"num_simplices": 3, "simplex_dim": 4, "temperature": 0.5, "hidden_dim": 7, "projection_dim": 4},
    "falcon": {"code_dim": 8, "num_codes": 9, "epsilon": 1e-3},
    "diet": {"label_smoothing": 0.6},
    "aninfonce": {"hidden_dim": 7, "projection_dim": 4, "initial_temperature": 0.3},
    "mmcr": {"hidden_dim": 7, "projection_dim": 4},
}


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
    return variants(objectives, ObjectiveConfig)[name].model_validate({"name": name} | SETTINGS[name] | changes)


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
