"""Which ViT of timm a file holds, from the shapes of its tensors."""

import math
import re
from collections.abc import Mapping

from issl_engine.models.encoders.timm_model import TimmConfig
from issl_engine.weights.weights_file import WeightsError

SIZES = {
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1280, 32): "huge",
}
"""(width, blocks) → timm's word for it (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021 for tiny and small)."""


def vit_of(shapes: Mapping[str, tuple[int, ...]], place: str, *, num_heads: int | None) -> tuple[TimmConfig, int]:
    """The model and the side of its images in pixels. Raises WeightsError, which begins with ``place``."""
    patches, position = shapes["patch_embed.proj.weight"], shapes.get("pos_embed")
    blocks = len({found[1] for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))})
    width, side = (patches[0], patches[-1]) if len(patches) == 4 else (0, 0)
    size = SIZES.get((width, blocks))
    if size is None or patches[1] != 3:
        known = ", ".join(f"{word} ({width} wide, {depth} blocks)" for (width, depth), word in SIZES.items())
        raise WeightsError(
            f"{place}: a ViT {width} wide, of {blocks} blocks, with patch_embed.proj.weight {list(patches)} is not "
            f"known here; known are {known}, on RGB patches"
        )
    if num_heads is not None and width % num_heads:
        raise WeightsError(
            f"{place}: a ViT {width} wide cannot have {num_heads} attention heads of one width; give a number that "
            "divides it, FILE?num_heads=N"
        )
    if position is None or len(position) != 3 or position[1] < 2 or math.isqrt(position[1] - 1) ** 2 != position[1] - 1:
        shown = "there is no pos_embed" if position is None else f"pos_embed is {list(position)}"
        raise WeightsError(
            f"{place}: {shown}, where a ViT with a class token has one row for it and a square of them for the patches"
        )
    family = "_dinov2" if "blocks.0.ls1.gamma" in shapes else "_224"
    name = f"timm/vit_{size}_patch{side}{family}"
    return TimmConfig(name=name, num_heads=num_heads), side * math.isqrt(position[1] - 1)
