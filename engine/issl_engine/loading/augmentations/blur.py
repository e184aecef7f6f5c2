"""Gaussian blur."""

from typing import Any

from nvidia.dali import fn

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform, on_some
from issl_engine.views.augmentations.blur import Blur


@apply_transform.register
def blur(_: Blur, view: Any, graph: ViewGraph, *, sigma: Any, window: Any) -> Any:
    return on_some(sigma > 0.0, _blurred, view, sigma, window)


def _blurred(crop: Any, sigma: Any, window: Any) -> Any:
    return fn.gaussian_blur(crop, sigma=sigma, window_size=window)
