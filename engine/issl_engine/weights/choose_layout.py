"""Which layout a file has: the one that explains most of its names."""

from collections.abc import Collection
from pathlib import Path

import issl_engine.weights.layouts as layouts
from issl_engine.variants import variants
from issl_engine.weights.errors import WeightsError
from issl_engine.weights.layouts.base import Layout, Reading


def choose_layout(names: Collection[str], path: Path) -> Reading:
    """Raises WeightsError where no layout finds an encoder."""
    readings = [found for kind in variants(layouts, Layout).values() if (found := kind().read(names)) is not None]  # type: ignore[call-arg]
    if not readings:
        raise WeightsError(f"{path}: no encoder is in it: {_what_is_there(names)}")
    return max(readings, key=lambda found: (len(found.encoder) + len(found.heads), len(found.layout.signs)))


def _what_is_there(names: Collection[str]) -> str:
    shown = f"its {len(names)} tensors are {listed(names)}"
    if len(names) <= 30 and not any("layer" in name or "blocks" in name for name in names):
        return f"{shown}, a head alone as it seems; give the file of the encoder"
    return (
        f"{shown}, and none is a ResNet's layer1.0.conv1.weight or a ViT's patch_embed.proj.weight; "
        "give the file of such an encoder"
    )


def listed(names: Collection[str], limit: int = 3) -> str:
    """The first names, and how many more there are."""
    first, more = list(names)[:limit], len(names) - limit
    text = ", ".join(first)
    return f"{text} and {more} more" if more > 0 else text
