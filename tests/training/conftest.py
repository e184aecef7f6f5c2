"""A tiny dataset in memory and a tiny recipe, so that a training run takes about a second."""

from typing import Any

import numpy as np
import pytest

from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet

NUM_TRAIN = 40
BATCH = 8  # five steps an epoch


def make_images(count: int, seed: int) -> ImageSet:
    """Four classes, each a smooth pattern of its own under noise; uint8 [count, 24, 24, 3]."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    grid = np.arange(24)
    patterns = np.stack([np.sin(grid[:, None] * (k + 1) / 4) * np.cos(grid[None] * (4 - k) / 4) for k in range(4)])
    pixels = 127 + 60 * patterns[labels][..., None] + 30 * random.standard_normal((count, 24, 24, 3))
    return ImageSet(
        labels=labels,
        sizes_HW=np.full((count, 2), 24, dtype=np.int32),
        pixels=pixels.clip(0, 255).astype(np.uint8),
    )


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(NUM_TRAIN, 0), test=make_images(16, 1))


SMALL_OBJECTIVES: dict[str, dict[str, Any]] = {
    "simclr": {"name": "simclr", "hidden_dim": 32},
    "cissl": {"name": "cissl", "hidden_dim": 32},
    "swav": {"name": "swav", "num_prototypes": 12, "queue_length": 16, "queue_start_epochs": 0.4, "hidden_dim": 32},
    "dino": {"name": "dino", "num_prototypes": 24, "hidden_dim": 32},
    "dissl": {"name": "dissl", "num_classes": 24, "hidden_dim": 32, "bottleneck_dim": 16},
    "barlow_twins": {"name": "barlow_twins", "hidden_dim": 32, "projection_dim": 32},
    "vicreg": {"name": "vicreg", "hidden_dim": 32, "projection_dim": 32},
    "byol": {"name": "byol", "hidden_dim": 32, "projection_dim": 16},
    "simsiam": {"name": "simsiam", "hidden_dim": 32, "projection_dim": 16},
    "ssl_hsic": {"name": "ssl_hsic", "hidden_dim": 32, "projection_dim": 16},
    "matrix_ssl": {"name": "matrix_ssl", "hidden_dim": 32, "projection_dim": 16, "predictor_hidden_dim": 16},
    "sem": {"name": "sem", "num_simplices": 8, "simplex_dim": 4, "hidden_dim": 32, "projection_dim": 16},
    "falcon": {"name": "falcon", "code_dim": 32, "num_codes": 24},
    "diet": {"name": "diet"},
    "aninfonce": {"name": "aninfonce", "hidden_dim": 32},
    "mmcr": {"name": "mmcr", "hidden_dim": 32, "projection_dim": 16},
}


def make_recipe(objective: str = "simclr", /, **changes: Any) -> Recipe:
    """A recipe of 2 epochs; ``changes`` replace whole top-level keys."""
    content: dict[str, Any] = {
        "name": "tiny",
        "source": {"name": "shapes"},
        "views": {
            "groups": [{"count": 2, "size": 16, "area": [0.3, 1.0]}, {"count": 1, "size": 12, "area": [0.1, 0.4]}]
        },
        "encoder": {"name": "small_resnet", "width": 4, "dim": 16},
        "objective": SMALL_OBJECTIVES[objective],
        "optimizer": {"name": "adamw", "lr": 0.003},
        "training": {"epochs": 2, "global_batch_size": BATCH, "log_every_steps": 1, "threads": 1},
        "evaluation": {"resize": 24, "crop": 24},
        "probes": [],
        "data": {"decode_threads": 1},
    }
    return Recipe.model_validate(content | changes)
