"""Times of a forward pass, a backward pass and both; providers take turns, so that all meet the same machine."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from issl_profiling.timing import Spread, spread

Tensors = tuple[Tensor, ...]

PASSES = ("fwd", "bwd", "both")
CACHE_BYTES = 2**28
"""More than a GPU's L2 holds: copies of the inputs fill as much."""
MOST_GPU_COPIES = 8
CPU_COPIES = 2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is timed, ``run``, and what it needs first, ``prepare``, from the number of a copy of the inputs."""

    prepare: Callable[[int], Any]
    run: Callable[[Any], object]


def input_copies(inputs: Tensors) -> list[Tensors]:
    """The inputs, and as many copies as it takes that a cache does not still hold them when their turn comes."""
    if inputs[0].device.type == "cuda":
        size = sum(x.untyped_storage().nbytes() for x in inputs)
        count = min(MOST_GPU_COPIES, max(1, math.ceil(CACHE_BYTES / max(size, 1))))
    else:
        count = CPU_COPIES
    return [inputs, *(tuple(x.clone() for x in inputs) for _ in range(count - 1))]


def make_stages(call: Callable[[Tensors], Tensor], copies: list[Tensors], differentiable: int) -> dict[str, Stage]:
    """Pass → its stage; gradients go to the first ``differentiable`` inputs, and without any there is only fwd.

    The gradient from above is a random scalar, so that no provider may take it to be one.
    """
    leaves = [
        (*(x.detach().requires_grad_() for x in inputs[:differentiable]), *inputs[differentiable:]) for inputs in copies
    ]

    def forward(inputs: Tensors) -> Tensor:
        with torch.no_grad():
            return call(inputs)

    stages = {"fwd": Stage(prepare=lambda i: copies[i % len(copies)], run=forward)}
    if differentiable == 0:
        return stages
    upstream = float(torch.empty(()).uniform_(0.5, 2.0))

    def backward(graph: tuple[Tensor, Tensor, Tensors]) -> Tensors:
        loss, scale, inputs = graph
        return torch.autograd.grad(loss, inputs[:differentiable], grad_outputs=scale)

    def graph(inputs: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        loss = call(inputs)
        return loss, torch.full_like(loss, upstream), inputs

    stages["bwd"] = Stage(prepare=lambda i: graph(leaves[i % len(leaves)]), run=backward)
    stages["both"] = Stage(prepare=lambda i: leaves[i % len(leaves)], run=lambda inputs: backward(graph(inputs)))
    return stages


def time_in_turns(stages: Mapping[str, Stage], repeats: int, device: torch.device) -> dict[str, Spread]:
    """Name → its time in milliseconds. In each round every stage runs once; warm them up before."""
    milliseconds: dict[str, list[float]] = {name: [] for name in stages}
    clock = _GpuClock(device) if device.type == "cuda" else _CpuClock()
    for index in range(repeats):
        for name, stage in stages.items():
            state = stage.prepare(index)
            milliseconds[name].append(clock.time(stage.run, state))
            del state
    return {name: spread(values) for name, values in milliseconds.items()}


class _CpuClock:
    def time(self, run: Callable[[Any], object], state: object) -> float:
        started = time.perf_counter()
        result = run(state)
        elapsed = 1000 * (time.perf_counter() - started)
        del result  # to free its memory is no part of the work
        return elapsed


class _GpuClock:
    """Time on the device between two events.

    Before the first event the device clears a buffer larger than its L2 a few times. The cache then holds nothing of
    the inputs, and the host, which launches meanwhile, is ahead of the device as it is in training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffer = torch.empty(CACHE_BYTES, dtype=torch.uint8, device=device)

    def time(self, run: Callable[[Any], object], state: object) -> float:
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(self.device)
        for _ in range(4):
            self.buffer.zero_()
        started.record()
        run(state)
        ended.record()
        ended.synchronize()
        return float(started.elapsed_time(ended))
