"""How well the online probe did since the last checkpoint: what checkpoint.keep_best compares."""

from collections.abc import Mapping

import torch
from torch import Tensor

from issl_engine.ranks import Ranks


class OnlineAccuracy:
    """Mean top-1 accuracy in percent over steps and ranks, summed on the device: the host waits only in ``take``.

    Accuracies that are not finite count for nothing.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._sum_and_count: Tensor | None = None

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """One step's metrics; nothing where there is no online probe."""
        top1 = metrics.get("online_top1")
        if top1 is not None:
            finite = top1.isfinite()
            step = torch.stack((torch.where(finite, top1, 0.0), finite.to(top1.dtype)))
            self._sum_and_count = step if self._sum_and_count is None else self._sum_and_count + step

    def take(self) -> float | None:
        """The mean since the last call, or None where there was none; every rank calls it."""
        own = [0.0, 0.0] if self._sum_and_count is None else self._sum_and_count.tolist()
        self._sum_and_count = None
        total, count = (sum(values) for values in zip(*self.ranks.gather(own), strict=True))
        return total / count if count else None
