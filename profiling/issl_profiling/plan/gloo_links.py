"""CPU ranks: what gloo's all-reduce takes, measured here, and ranks that share cores."""

import os
import time
from dataclasses import dataclass
from statistics import median

import torch
import torch.distributed as dist

from issl_profiling.plan.messages import Message

SMALL_NUMBERS, LARGE_NUMBERS = 1, 2**20
REPEATS = 20


@dataclass(frozen=True, kw_only=True)
class GlooLinks:
    """A fixed time per message and a bandwidth, as measured between two ranks; with more ranks than cores each waits
    for its turn, which the caller puts on top."""

    latency_s: float
    bytes_per_second: float

    def seconds(self, message: Message, ranks: int) -> float:
        """Rings: an all-reduce of W ranks sends 2 (W-1)/W of its bytes in 2 (W-1) hops, which with two ranks are one
        time its bytes and two hops, the case that was measured."""
        hops, share = {
            "all_reduce": (2 * (ranks - 1), 2 * (ranks - 1) / ranks),
            "reduce_scatter": (ranks - 1, (ranks - 1) / ranks),
            "all_gather": (ranks - 1, float(ranks - 1)),
            "ring": (1, 1.0),
        }[message.kind]
        return message.count * (hops / 2 * self.latency_s + share * message.payload_bytes / self.bytes_per_second)


def measure_links() -> GlooLinks:
    """Between the ranks of this process group."""
    small, large = _all_reduce_seconds(SMALL_NUMBERS), _all_reduce_seconds(LARGE_NUMBERS)
    return GlooLinks(latency_s=small, bytes_per_second=4 * LARGE_NUMBERS / max(large - small, 1e-9))


def _all_reduce_seconds(numbers: int) -> float:
    values, seconds = torch.zeros(numbers), []
    for _ in range(REPEATS):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(values)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def contention(ranks: int, threads: int = 1) -> float:
    """How many times as long work takes when ``ranks`` of so many threads share this machine's cores."""
    return max(1.0, ranks * threads / len(os.sched_getaffinity(0)))
