"""The horizontal flip, which ends a view."""

from typing import Any

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform
from issl_engine.loading.normalisation import normalise
from issl_engine.views.augmentations.flip import Flip


@apply_transform.register
def flip(_: Flip, view: Any, graph: ViewGraph, *, mirrored: Any) -> Any:
    """Mirrors and normalises: one operator does both, which spares a copy. Float, three channels."""
    return normalise(view, graph.mean, graph.std, graph.channels, graph.layout, mirror=mirrored)
