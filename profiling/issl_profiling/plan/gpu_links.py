"""Seconds of a collective: rings inside a node, one ring per card between nodes, trees for what is short.

W = n nodes x g GPUs. An all-reduce of S bytes: reduce-scatter inside the node, (g-1)/g S over NVLink; all-reduce of S/g
between nodes, 2 (n-1)/n S/g per card; all-gather inside the node. Hops: g-1 each way inside, 2 log2 n between.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.hardware import GIGA, GPUS_PER_NODE, Gpu
from issl_profiling.plan.messages import Message


class Links(Protocol):
    """Something that carries messages."""

    def seconds(self, message: Message, ranks: int) -> float:
        """Of all of its ``count``."""
        ...


@dataclass(frozen=True, kw_only=True)
class GpuLinks:
    """NVLink inside nodes of eight, one network card per GPU between them."""

    gpu: Gpu
    assumed: Assumptions

    def seconds(self, message: Message, ranks: int) -> float:
        inside = min(ranks, GPUS_PER_NODE)
        nodes = math.ceil(ranks / GPUS_PER_NODE)
        return message.count * self._seconds_of_one(message, inside, nodes)

    def _seconds_of_one(self, message: Message, g: int, n: int) -> float:
        nvlink, network = self._bandwidths()
        near, far = self.assumed.nvlink_latency_s, self.assumed.network_latency_s
        size, hops = message.payload_bytes, math.ceil(math.log2(n)) if n > 1 else 0
        if message.kind == "ring":
            return size / (network if n > 1 else nvlink) + (far if n > 1 else near)
        if message.kind == "all_gather":  # of `size` a rank
            return (n - 1) * size / network + (g - 1) * n * size / nvlink + (g - 1) * near + hops * far
        one_way = (g - 1) / g * size / nvlink + (n - 1) / n * size / g / network + (g - 1) * near + hops * far
        return one_way if message.kind == "reduce_scatter" else 2 * one_way

    def _bandwidths(self) -> tuple[float, float]:
        share = self.assumed.link_efficiency
        return share * self.gpu.nvlink_bandwidth, share * self.assumed.network_gbit * GIGA / 8
