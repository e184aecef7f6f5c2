"""What the device can do at best, measured in the same run as the operations, and the floor that follows."""

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from issl_kernels.case import Work
from issl_profiling.timing import wait_for

GPU_MATMUL, CPU_MATMUL = 8192, 1024
GPU_COPY_BYTES, CPU_COPY_BYTES = 2**30, 2**28
CPU_EXPONENTIALS = 2**18
ROUNDS = 7
GPU_CALLS = 10
"""In each round, so that launching and waiting weigh little."""


class Ceilings(NamedTuple):
    """Rates of a device; infinite where one was not measured and so bounds nothing."""

    flops_per_second: float
    """Of a large matrix product in the dtype of the inputs; a multiply-add counts as two."""
    bytes_per_second: float
    """Of a large copy, read and written."""
    exponentials_per_second: float
    """In fp32, from registers or cache."""


def floor(work: Work, ceilings: Ceilings) -> float:
    """Seconds that the work takes at least: its slowest part, as if the others ran beside it."""
    return max(
        work.flops / ceilings.flops_per_second,
        work.bytes / ceilings.bytes_per_second,
        work.exponentials / ceilings.exponentials_per_second,
    )


def measure_ceilings(dtype: torch.dtype, device: torch.device) -> Ceilings:
    """Measures the three rates on random numbers; about a second."""
    gpu = device.type == "cuda"
    side = GPU_MATMUL if gpu else CPU_MATMUL
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.randn((GPU_COPY_BYTES if gpu else CPU_COPY_BYTES) // 4, device=device)
    target = torch.empty_like(source)
    flops = 2.0 * side**3 / _seconds(lambda: torch.mm(a, b, out=product), device)
    copied = 2.0 * source.nbytes / _seconds(lambda: target.copy_(source), device)
    return Ceilings(flops, copied, _gpu_exponentials(device) if gpu else _cpu_exponentials(device))


def _cpu_exponentials(device: torch.device) -> float:
    """Over numbers that stay in the cores' caches."""
    x = torch.randn(CPU_EXPONENTIALS, device=device)
    out = torch.empty_like(x)
    return x.numel() / _seconds(lambda: torch.exp(x, out=out), device)


def _gpu_exponentials(device: torch.device) -> float:
    """By a kernel that keeps its numbers in registers: torch.exp would measure the memory."""
    if importlib.util.find_spec("triton") is None:
        return math.inf
    from issl_profiling.kernels.repeated_exponential import BLOCK, EXPONENTIALS, repeated_exponential

    x = torch.randn(16 * torch.cuda.get_device_properties(device).multi_processor_count * BLOCK, device=device)
    return x.numel() * EXPONENTIALS / _seconds(lambda: repeated_exponential(x), device)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of one call, in the fastest round after a warm-up: what slows a round down is no property of the device."""
    calls = GPU_CALLS if device.type == "cuda" else 1
    call()
    times = []
    for _ in range(ROUNDS):
        wait_for(device)
        started = time.perf_counter()
        for _ in range(calls):
            call()
        wait_for(device)
        times.append((time.perf_counter() - started) / calls)
    return min(times)
