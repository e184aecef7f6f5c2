"""Operators on crops of whole numbers that jitter, solarisation and policies share."""

from typing import Any

from nvidia.dali import fn, types


def to_grey(view: Any, channels: int) -> Any:
    """One channel: the weighted grey of three, or the one that there is."""
    if channels == 1:
        return view
    rgb, grey = types.DALIImageType.RGB, types.DALIImageType.GRAY
    return fn.color_space_conversion(view, image_type=rgb, output_type=grey)


def solarised(view: Any, threshold: Any) -> Any:
    """Inverts from the threshold on. 255 - x is x with all bits turned, which costs a third of choosing between the
    two."""
    return view ^ ((view >= threshold) * types.Constant(255, dtype=types.DALIDataType.UINT8))
