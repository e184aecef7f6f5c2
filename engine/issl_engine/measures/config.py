"""What a recipe says of diagnostics."""

from typing import Annotated

from pydantic import Field

from issl_engine.config import Config


class DiagnosticsConfig(Config):
    """Measures of the representation during training, in metrics.jsonl, and after it, in diagnostics.json."""

    every_steps: Annotated[int, Field(ge=1)] | None = 100
    """Steps between two measurements on the batch that training has just encoded, written at the next line of
    metrics.jsonl; null for none. The alarms of collapse need them."""
    num_images: Annotated[int, Field(ge=2)] = 256
    """Images of that batch, over all ranks, that are measured at most; the cost grows with their cube."""
    after_images: Annotated[int, Field(ge=2)] | None = 1024
    """Images of the split that probes are judged on that are measured at most after training, or null for none."""
    after_views: Annotated[int, Field(ge=2)] = 4
    """Augmented views of each of these, drawn as training's global views are; LiDAR's authors take 50."""
