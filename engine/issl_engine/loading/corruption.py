"""Corruptions of cropped images as DALI operators, on the CPU or the GPU.

Letters: C channels.
"""

from typing import Any

import numpy as np
from nvidia.dali import fn, types

from issl_engine.loading.augmentations.colour import by_arithmetic, to_grey
from issl_engine.loading.augmentations.noise import with_noise
from issl_engine.views.corruptions import Corruption
from issl_engine.views.noise_field import STEPS_PER_STD


def corrupted(view: Any, corruption: Corruption, side: int, channels: int, on_gpu: bool, *, noise: Any = None) -> Any:
    """``view``: uint8 [side, side, C]; the same type and shape, corrupted. ``noise``: the node of
    CorruptionInputs."""
    if corruption.kind == "gaussian_noise":
        return with_noise(view, np.float32(corruption.noise_std() / STEPS_PER_STD), noise.gpu() if on_gpu else noise)
    if corruption.kind == "gaussian_blur":
        return fn.gaussian_blur(view, sigma=corruption.blur_sigma(side))
    if corruption.kind == "contrast":
        factor = corruption.contrast_factor()
        mean_11C = fn.reductions.mean(view, axes=[0, 1], keep_dims=True)
        return by_arithmetic(view, factor, (1 - factor) * mean_11C)
    assert corruption.kind == "jpeg"
    if channels == 1:  # the operator takes three
        rgb, grey = types.DALIImageType.RGB, types.DALIImageType.GRAY
        view = fn.color_space_conversion(view, image_type=grey, output_type=rgb)
    view = fn.jpeg_compression_distortion(view, quality=corruption.jpeg_quality())
    return to_grey(view, 3) if channels == 1 else view
