"""The operations of RandAugment and TrivialAugment as DALI operators."""

import functools
import operator
from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform, on_some
from issl_engine.loading.augmentations.colour import to_grey
from issl_engine.loading.augmentations.rotation import warp
from issl_engine.loading.augmentations.solarise import solarised
from issl_engine.views.augmentations.policy import ALL_OPERATIONS, GEOMETRY, Operation, PolicyStep

UINT8, FLOAT = types.DALIDataType.UINT8, types.DALIDataType.FLOAT


@apply_transform.register
def policy(step: PolicyStep, view: Any, graph: ViewGraph, *, operation: Any, value: Any, matrix: Any) -> Any:
    """One operation per image."""
    # Named arguments stay on the CPU; what is computed with pixels goes where they are.
    factor = value.gpu() if graph.on_gpu and value is not None else value
    kernel = matrix.gpu() if graph.on_gpu and matrix is not None else matrix
    fill, channels = step.policy.fill, graph.channels
    effective = step.policy.effective(channels)

    def chosen(*names: Operation) -> Any:
        """Which images get one of these; None if the policy has none of them."""
        flags = [operation == _constant(ALL_OPERATIONS.index(name)) for name in names if name in effective]
        return functools.reduce(operator.or_, flags) if flags else None

    if (some := chosen(*GEOMETRY)) is not None:
        view = on_some(some, lambda crop, by: warp(crop, by, fill), view, matrix)
    if (some := chosen("brightness")) is not None:
        view = on_some(some, lambda crop, by: fn.brightness(crop, brightness=by), view, value)
    if (some := chosen("colour")) is not None:
        view = on_some(some, lambda crop, by: fn.saturation(crop, saturation=by), view, value)
    if (some := chosen("contrast")) is not None:
        view = on_some(some, lambda crop, by: _contrast(crop, by, channels), view, factor)
    if (some := chosen("sharpness")) is not None:
        view = on_some(some, fn.filter, view, kernel)
    if (some := chosen("posterise")) is not None:
        view = on_some(some, lambda crop, bits: crop & fn.cast(bits, dtype=UINT8), view, factor)
    if (some := chosen("solarise")) is not None:
        view = on_some(some, solarised, view, factor)
    if (some := chosen("auto_contrast")) is not None:
        view = on_some(some, _auto_contrast, view)
    if (some := chosen("equalise")) is not None:
        view = on_some(some, fn.equalize, view)
    return view


def _constant(number: int) -> Any:
    return types.Constant(number, dtype=types.DALIDataType.INT32)


def _contrast(crop: Any, factor: Any, channels: int) -> Any:
    """Moves away from the mean grey of the crop."""
    mean = fn.reductions.mean(to_grey(crop, channels), axis_names="HW", keep_dims=True)
    return fn.cast(mean + (crop - mean) * factor, dtype=UINT8)


def _auto_contrast(crop: Any) -> Any:
    """Stretches each channel to 0 to 255; a channel of one level stays."""
    low = fn.reductions.min(crop, axis_names="HW", keep_dims=True)
    high = fn.reductions.max(crop, axis_names="HW", keep_dims=True)
    flat = low == high
    scale = 255.0 / (fn.cast(high, dtype=FLOAT) - low + flat * 255.0)
    return fn.cast((crop - low * (high > low)) * scale, dtype=UINT8)
