"""Building and running a DALI pipeline, and its outputs as tensors."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline
from torch import Tensor
from torch.utils.dlpack import from_dlpack

NameT = TypeVar("NameT", bound=Hashable)


def build_pipeline(
    graph: Callable[[], tuple[Any, ...]],
    *,
    batch_size: int,
    num_threads: int,
    device: torch.device,
    prefetch: int,
) -> Pipeline:
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=num_threads,
        device_id=_gpu(device),
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,  # its outputs stay valid for as long as a tensor refers to them
    )
    with pipeline:
        pipeline.set_outputs(*graph())
    pipeline.build()
    return pipeline


def named_inputs(feed: Callable[[], Mapping[NameT, Any]], layouts: Mapping[NameT, str]) -> dict[NameT, Any]:
    """Name → a node of the graph that is being built, fed with what ``feed`` returns under that name for each batch.

    ``layouts``: name → layout, or "" for none.
    """
    names = list(layouts)

    def in_order() -> tuple[Any, ...]:
        fed = feed()
        assert fed.keys() == layouts.keys(), f"fed and declared differ: {sorted(map(str, fed.keys() ^ layouts.keys()))}"
        return tuple(fed[name] for name in names)

    nodes = fn.external_source(
        source=in_order, num_outputs=len(names), batch=True, layout=[layouts[name] for name in names]
    )
    return dict(zip(names, nodes, strict=True))


def _gpu(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return device.index if device.index is not None else torch.cuda.current_device()


def run_pipeline(pipeline: Pipeline, device: torch.device) -> Any:
    """One batch. On a GPU it is ordered into torch's stream, so that DALI waits for torch's copies."""
    if device.type == "cuda":
        return pipeline.run(cuda_stream=torch.cuda.current_stream(device))
    return pipeline.run()


def to_torch(output: Any) -> Tensor:
    """A batch of equal shapes, sharing DALI's memory, which DALI may write again later: callers copy."""
    return from_dlpack(output.as_tensor())


def copy_batch(batch: Tensor, target: Tensor) -> None:
    """Writes ``batch`` into ``target``, of the same shape and device, converting its type."""
    if batch.device.type == "cpu" and batch.dtype == target.dtype == torch.float32:
        # By one thread: torch's would wait for each other while DALI's threads, which make the next batch, hold the
        # cores.
        np.copyto(target.numpy(), batch.numpy())
    else:
        target.copy_(batch)
