"""Which ResNet a file holds, from the shapes of its tensors."""

import re
from collections.abc import Mapping

from issl_engine.models.encoders.residual_blocks import BasicBlock, Bottleneck
from issl_engine.models.encoders.resnet import ARCHITECTURES, ResNetConfig, Stem
from issl_engine.weights.weights_file import WeightsError

Shapes = Mapping[str, tuple[int, ...]]


def resnet_of(shapes: Shapes, place: str, *, stem_of_3x3: Stem | None) -> ResNetConfig:
    """``shapes`` by our names. Raises WeightsError, which begins with ``place``, for a network that is none of ours."""
    first = shapes.get("conv1.weight")
    if first is None or len(first) != 4 or first[1] != 3 or first[0] % 64 or first[2:] not in ((7, 7), (3, 3)):
        shown = "there is no conv1.weight" if first is None else f"conv1.weight is {list(first)}"
        raise WeightsError(
            f"{place}: {shown}, where a ResNet of this engine has a convolution of 3 to 64 channels (or a multiple), "
            "7x7 or 3x3; deep and grayscale stems are not supported"
        )
    stem: Stem | None = "imagenet" if first[2:] == (7, 7) else stem_of_3x3
    if stem is None:
        raise WeightsError(
            f"{place}: the first convolution is 3x3, and a file does not show whether a max-pool follows, nor for "
            "which images it is; add it to the name: FILE?stem=tiny&size=32 (no max-pool; tiny_padded for "
            "2 pixels of padding) or FILE?stem=small&size=64 (max-pool)"
        )
    name, multiplier, resized = _name(shapes, place), first[0] // 64, shapes.get("resizer.conv3.weight")
    as_wide = resized is not None and resized[0] == ARCHITECTURES[name].width(multiplier)
    return ResNetConfig(
        name=name,  # type: ignore[arg-type]
        width_multiplier=multiplier,
        stem=stem,
        dim=None if resized is None else resized[0],
        bottleneck="always" if as_wide else "where_needed",
    )


def _name(shapes: Shapes, place: str) -> str:
    block = Bottleneck if "layer1.0.conv3.weight" in shapes else BasicBlock
    depths = tuple(_depth(shapes, stage) for stage in range(1, 5))
    for name, architecture in ARCHITECTURES.items():
        if architecture.block is block and architecture.depths == depths:
            return name
    known = ", ".join(f"{name} {list(architecture.depths)}" for name, architecture in ARCHITECTURES.items())
    raise WeightsError(
        f"{place}: its stages have {list(depths)} {'bottleneck' if block is Bottleneck else 'basic'} blocks, as no "
        f"ResNet of this engine has ({known}); the file is cut short or holds another architecture"
    )


def _depth(shapes: Shapes, stage: int) -> int:
    blocks = {found[1] for name in shapes if (found := re.match(rf"layer{stage}\.(\d+)\.", name))}
    return len(blocks)
