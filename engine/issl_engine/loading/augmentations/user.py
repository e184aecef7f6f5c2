"""The user's operators. They are tried on made-up crops when a loader is built, before any training."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.types import DALIDataType

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform, choose
from issl_engine.loading.pipeline import build_pipeline, run_pipeline
from issl_engine.mistakes import Mistake
from issl_engine.views.augmentations.user import UserTransform, user_function
from issl_engine.views.config import ViewsConfig

NUM_CROPS = 8
"""On which an operator is tried."""


@apply_transform.register
def user(transform: UserTransform, view: Any, graph: ViewGraph, *, number: Any) -> Any:
    """Runs on all crops, since constants in a function of the user have the whole batch's length; kept where chosen."""
    key = f"views.augmentation.operators.{transform.index}.function"  # tried before: imports now
    changed = user_function(transform.operator.function, key)(view, number + (number < 0.0) * 1.0)
    return choose(number >= 0.0, changed, view)


def check_user_operators(views: ViewsConfig, channels: int, device: torch.device) -> None:
    """Raises Mistake for an operator that cannot be imported or run, returns something else than a crop, or draws
    random numbers of its own."""
    for index, group in enumerate(views.groups):
        where = "views" if group.augmentation is None else f"views.groups.{index}"
        for number, operator in enumerate(views.augmentation_of(group).user_operators):
            key = f"{where}.augmentation.operators.{number}.function"
            function = user_function(operator.function, key)
            problem = _problem(function, (group.size, group.size, channels), device)
            if problem is not None:
                raise Mistake(f"{key}: {operator.function!r} {problem}")


def _problem(function: Callable[..., Any], shape_HWC: tuple[int, int, int], device: torch.device) -> str | None:
    """What is wrong and what to do; None if nothing."""
    height, width, channels = shape_HWC
    crops = f"crops of {height} x {width} x {channels}"
    try:
        first, second = (_run(function, shape_HWC, device) for _ in range(2))
    except TypeError as error:
        return f"failed on {crops} ({_first_sentence(error)}); it must take (view, uniform) and return one DALI node"
    except Exception as error:
        return f"failed on {crops} ({type(error).__name__}: {_first_sentence(error)}); mend the function"
    if first.dtype != DALIDataType.UINT8:
        return f"returns {first.dtype.name.lower()} where uint8 is needed; end it with fn.cast(..., dtype=types.UINT8)"
    if first.layout() != "HWC":
        layout = first.layout() or "none"
        return f"returns the layout {layout} where HWC is needed; keep the axes, or name them by fn.reshape"
    shapes = {tuple(shape) for shape in first.shape()}
    if shapes != {shape_HWC}:
        wrong = " x ".join(map(str, next(iter(shapes - {shape_HWC}))))
        return f"makes {wrong} of {crops}; it must keep their size"
    if not all(np.array_equal(_pixels(first, i), _pixels(second, i)) for i in range(NUM_CROPS)):
        return "gives other pixels each time that it is run; take its randomness from uniform alone"
    return None


def _run(function: Callable[..., Any], shape_HWC: tuple[int, int, int], device: torch.device) -> Any:
    """The result for one batch, as a DALI batch. Raises what the function or DALI raises."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (NUM_CROPS, *shape_HWC), dtype=np.uint8)
    uniform = (np.arange(NUM_CROPS) / NUM_CROPS).astype(np.float32)

    def graph() -> tuple[Any, ...]:
        view, number = fn.external_source(
            source=lambda: (crops, uniform), num_outputs=2, batch=True, layout=["HWC", ""]
        )
        result = function(view.gpu() if device.type == "cuda" else view, number)
        if not isinstance(result, DataNode):
            raise TypeError(f"it returned {type(result).__name__}")
        if result.device != ("gpu" if device.type == "cuda" else "cpu"):
            raise TypeError(f"its result is on the {result.device}")
        return result, number

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an input that the function leaves unused
        pipeline = build_pipeline(graph, batch_size=NUM_CROPS, num_threads=1, device=device, prefetch=1)
    result, _ = run_pipeline(pipeline, device)
    return result


def _pixels(batch: Any, index: int) -> Any:
    sample = batch[index]
    return np.asarray(sample.as_cpu() if hasattr(sample, "as_cpu") else sample)


def _first_sentence(error: Exception) -> str:
    """The sentence that says most: DALI puts its own below a traceback of the graph, after "encountered:"."""
    text = str(error).rpartition("encountered:")[2]
    lines = [re.sub(r"^\[\S+\] ", "", line.strip()) for line in text.splitlines() if line.strip()]
    return lines[0].partition(". ")[0] if lines else type(error).__name__
