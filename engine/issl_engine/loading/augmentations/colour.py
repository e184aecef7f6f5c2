"""Colour jitter and grey: the matrix of colours, then contrast."""

from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform
from issl_engine.views.augmentations.colour import Colour


@apply_transform.register
def colour(_: Colour, view: Any, graph: ViewGraph, *, matrix: Any, contrast: Any, brightness: Any) -> Any:
    """Contrast and brightness come together or not at all."""
    if matrix is not None:
        view = fn.coord_transform(view, M=matrix, dtype=types.DALIDataType.UINT8)
    if contrast is not None:
        view = contrasted(view, contrast, brightness, graph.channels)
    return view


def contrasted(view: Any, contrast: Any, brightness: Any, channels: int) -> Any:
    """Away from the mean of its grey image by the factor ``contrast``, then times ``brightness``."""
    mean = mean_grey(view, channels)
    if view.device == "cpu":
        return fn.brightness_contrast(view, contrast=contrast, brightness=brightness, contrast_center=mean)
    # Operators take their arguments from the CPU, and copying the mean back there would wait for it.
    return by_arithmetic(view, (contrast * brightness).gpu(), ((1 - contrast) * brightness).gpu() * mean)


def mean_grey(view: Any, channels: int) -> Any:
    return fn.reductions.mean(to_grey(view, channels))


def to_grey(view: Any, channels: int) -> Any:
    """One channel: the weighted grey of three, or the one that there is."""
    if channels == 1:
        return view
    rgb, grey = types.DALIImageType.RGB, types.DALIImageType.GRAY
    return fn.color_space_conversion(view, image_type=rgb, output_type=grey)


def by_arithmetic(view: Any, gain: Any, shift: Any) -> Any:
    """gain · view + shift, rounded and clipped to 0 to 255 by the cast."""
    return fn.cast(view * gain + shift, dtype=types.DALIDataType.UINT8)
