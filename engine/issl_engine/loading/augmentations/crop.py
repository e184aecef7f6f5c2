"""The crop: a window of the decoded image, resized."""

from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform
from issl_engine.views.augmentations.crop import Crop

INTERPOLATION = {"bilinear": types.DALIInterpType.INTERP_LINEAR, "bicubic": types.DALIInterpType.INTERP_CUBIC}


@apply_transform.register
def crop(settings: Crop, view: Any, graph: ViewGraph, *, start_HW: Any, end_HW: Any) -> Any:
    """uint8 [size, size, C], antialiased."""
    return fn.resize(
        view, roi_start=start_HW, roi_end=end_HW, size=[settings.size, settings.size], antialias=True,
        interp_type=INTERPOLATION[settings.interpolation],
    )  # fmt: skip
