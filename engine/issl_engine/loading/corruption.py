"""Corruptions of cropped images as DALI operators, on the CPU or the GPU.

Letters: B images of a batch, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types

from issl_engine.loading.augmentations.colour import by_arithmetic, to_grey
from issl_engine.loading.augmentations.noise import with_noise
from issl_engine.random_streams import Purpose, uniforms
from issl_engine.views.corruptions import Corruption
from issl_engine.views.noise_field import NUM_STARTS, STEPS_PER_STD, NoiseField


class CorruptionInputs:
    """What the graph is fed for a corruption: the noise of each image, which depends on the seed and on the image's
    place in its set alone; nothing for the others.

    Channels of a grey image share their noise, as they share their pixels.
    """

    def __init__(self, corruption: Corruption | None, side: int, channels: int) -> None:
        self.side, self.channels = side, channels
        self.noisy = corruption is not None and corruption.kind == "gaussian_noise"
        if self.noisy:
            assert corruption is not None
            self._seed, self._field = corruption.seed, NoiseField(corruption.seed, side)

    @property
    def layouts(self) -> dict[str, str]:
        """The names that ``batch`` gives, and their layouts."""
        return {"noise": "HWC"} if self.noisy else {}

    def batch(self, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """``noise`` int8 [B, side, side, C], in 32nds of a standard deviation, where the corruption has any."""
        if not self.noisy:
            return {}
        starts = [
            uniforms(1, 1, seed=self._seed, epoch=0, first_position=index, purpose=Purpose.CORRUPTION)
            for index in ids.tolist()
        ]
        places = (np.concatenate(starts)[:, 0] * NUM_STARTS).astype(np.int64)
        return {"noise": self._field.windows(places, self.side, self.channels)}


def corrupted(view: Any, corruption: Corruption, side: int, channels: int, on_gpu: bool, *, noise: Any = None) -> Any:
    """``view``: uint8 [side, side, C]; the same type and shape, corrupted. ``noise``: the node of CorruptionInputs."""
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
