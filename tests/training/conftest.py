"""A tiny dataset in memory and a tiny recipe, so that a training run takes about a second."""

from typing import Any

import numpy as np
import pytest

from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet

from ..objectives.small_objectives import SMALL

NUM_TRAIN = 40
BATCH = 8  # five steps per epoch


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


SMALL_OBJECTIVES = {name: {"name": name} | small.training for name, small in SMALL.items()}
"""Objective's name → its part of a recipe."""


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
