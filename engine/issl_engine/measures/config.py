"""The ``diagnostics`` key of a recipe: which measures are made, when, and on how many images."""

from typing import Annotated

from pydantic import Field

from issl_engine.config import Config


class DiagnosticsConfig(Config):
    """Measures of the representation: during training in metrics.jsonl, after it in diagnostics.json."""

    every_steps: Annotated[int, Field(ge=1)] | None = 100
    """Steps between two measurements, or null for none. What is measured is the batch that training has just encoded;
    the next line of metrics.jsonl holds the values. The alarms of collapse need them."""
    num_images: Annotated[int, Field(ge=2)] = 256
    """Most images of that batch, over all ranks, that are measured. The cost grows with their cube."""
    after_images: Annotated[int, Field(ge=2)] | None = 1024
    """Most images that are measured after training, or null for none. They are of the split on which probes are
    judged."""
    after_views: Annotated[int, Field(ge=2)] = 4
    """Augmented views per image, drawn as training's global views are. LiDAR's authors take 50."""
