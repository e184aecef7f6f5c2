"""Chooses the layout of a file: the one that explains most of its names."""

from collections.abc import Collection
from pathlib import Path

import issl_engine.weights.layouts as layouts
from issl_engine.variants import variants
from issl_engine.weights.layouts.base import Layout, Reading, encoder_roots
from issl_engine.weights.weights_file import WeightsError

MOST_OF_A_HEAD = 30
"""Tensors that projection heads and classifiers have at most."""


def choose_layout(names: Collection[str], path: Path, *, root: str = "") -> Reading:
    """The names as the best layout reads them. ``root`` is a prefix that the user gave; other names are left out.

    Raises WeightsError where no layout finds an encoder.
    """
    behind = [name.removeprefix(root) for name in names if name.startswith(root)]
    kinds = variants(layouts, Layout).values()
    readings = [found for kind in kinds if (found := kind().read(behind)) is not None]  # type: ignore[call-arg]
    if not readings:
        raise WeightsError(f"{path}: {_what_is_there(names, root)}")
    best = max(readings, key=lambda found: (len(found.encoder) + len(found.heads), len(found.layout.signs)))
    return best.behind(root)


def _what_is_there(names: Collection[str], root: str) -> str:
    shown = f"no encoder is in it: its {len(names)} tensors are {listed(names)}"
    anchors = {anchor for kind in variants(layouts, Layout).values() for anchor in kind.anchors}
    roots = sorted(set(encoder_roots(names, anchors)))
    if roots:
        behind = f" behind '{root}'" if root else ""
        return (
            f"no known layout has its encoder where this file has it{behind}: at {listed(roots)}; add the one to take "
            f"to the name: FILE?root={roots[0]}"
        )
    if len(names) <= MOST_OF_A_HEAD and not any("layer" in name or "blocks" in name for name in names):
        return f"{shown}, a head alone as it seems; give the file of the encoder"
    return (
        f"{shown}, and none is a ResNet's layer1.0.conv1.weight or a ViT's patch_embed.proj.weight; give the file of "
        "such an encoder"
    )


def listed(names: Collection[str], limit: int = 3) -> str:
    """The first names, and how many more there are."""
    first, more = list(names)[:limit], len(names) - limit
    text = ", ".join(first)
    return f"{text} and {more} more" if more > 0 else text
