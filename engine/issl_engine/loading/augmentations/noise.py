"""Gaussian noise."""

from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform, on_some
from issl_engine.views.augmentations.noise import GaussianNoise


@apply_transform.register
def noise(_: GaussianNoise, view: Any, graph: ViewGraph, *, noisy: Any, scale: Any, noise: Any) -> Any:
    if graph.on_gpu:
        scale, noise = scale.gpu(), noise.gpu()
    return on_some(noisy, with_noise, view, scale, noise)


def with_noise(crop: Any, scale: Any, noise: Any) -> Any:
    """``noise`` int8, of the crop's shape; ``scale``: grey levels per step of it. Rounded and clipped to 0 to 255."""
    return fn.cast(crop + noise * scale, dtype=types.DALIDataType.UINT8)
