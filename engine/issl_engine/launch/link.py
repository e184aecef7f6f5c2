"""The connection between ranks, measured: the sum of an all-reduce, its rate, and how far clocks are apart."""

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from issl_engine.ranks import Ranks

GPU_BYTES = 16 * 2**20
CPU_BYTES = 2**20
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class LinkFacts:
    """``sum_is_right`` for an all-reduce of ``bytes`` that ran at ``mb_per_second`` (10^6 bytes of the tensor a
    second). ``clock_ahead_seconds`` of rank 0's clock, known to within ``clock_error_seconds``."""

    sum_is_right: bool
    bytes: int
    mb_per_second: float
    clock_ahead_seconds: float
    clock_error_seconds: float


def measure_link(ranks: Ranks) -> LinkFacts:
    """Every rank must call it, and there must be several."""
    assert ranks.group is not None
    num_bytes = GPU_BYTES if ranks.device.type == "cuda" else CPU_BYTES
    right, seconds = True, float("inf")
    for _ in range(REPEATS + 1):  # the first opens connections
        values = torch.full((num_bytes // 4,), float(ranks.rank + 1), device=ranks.device)
        ranks.barrier()
        _wait(ranks.device)
        started = time.perf_counter()
        dist.all_reduce(values, group=ranks.group)
        _wait(ranks.device)
        seconds = min(seconds, time.perf_counter() - started)
        right &= bool((values == ranks.world_size * (ranks.world_size + 1) / 2).all())
    ahead, error = _clock(ranks)
    return LinkFacts(
        sum_is_right=right, bytes=num_bytes, mb_per_second=num_bytes / seconds / 1e6, clock_ahead_seconds=ahead,
        clock_error_seconds=error,
    )  # fmt: skip


def _clock(ranks: Ranks) -> tuple[float, float]:
    """Seconds by which this rank's clock is ahead of rank 0's, and the half of the shortest round trip seen.

    Rank 0's reading falls between the two of this rank; in the middle, on average.
    """
    best = (0.0, float("inf"))
    for _ in range(REPEATS):
        ranks.barrier()
        before = time.time()
        first = ranks.from_first(time.time())
        after = time.time()
        best = min(best, ((before + after) / 2 - first, (after - before) / 2), key=lambda found: found[1])
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
