"""The operations of RandAugment and TrivialAugment as DALI operators."""

import functools
import operator
from collections.abc import Iterator
from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.only_some import on_some
from issl_engine.loading.pixel_operators import solarised, to_grey
from issl_engine.loading.warp import warp
from issl_engine.views.policies.base import ALL_OPERATIONS, GEOMETRY, Operation, Policy

UINT8, FLOAT = types.DALIDataType.UINT8, types.DALIDataType.FLOAT


def policy_step(view: Any, inputs: Iterator[Any], policy: Policy, channels: int, on_gpu: bool) -> Any:
    """One operation an image. Takes the step's arguments off ``inputs``."""
    given = {name: next(inputs) for name in policy.step_inputs(channels)}
    value: Any = given.get("value")
    matrix: Any = given.get("matrix")
    # Named arguments stay on the CPU; what is computed with pixels goes where they are.
    factor = value.gpu() if on_gpu and value is not None else value
    kernel = matrix.gpu() if on_gpu and matrix is not None else matrix
    effective = policy.effective(channels)

    def chosen(*names: Operation) -> Any:
        """Which images get one of these; None if the policy has none of them."""
        flags = [
            given["operation"] == types.Constant(ALL_OPERATIONS.index(name), dtype=types.DALIDataType.INT32)
            for name in names
            if name in effective
        ]
        return functools.reduce(operator.or_, flags) if flags else None

    if (some := chosen(*GEOMETRY)) is not None:
        view = on_some(some, lambda crop, by: warp(crop, by, policy.fill), view, matrix)
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
