"""How well the online probe did since the last checkpoint: what checkpoint.keep_best compares."""

from torch import Tensor

from issl_engine.training.deepspeed import Ranks


class OnlineAccuracy:
    """Mean top-1 accuracy in percent over steps and ranks, summed on the device: the host waits only in ``take``."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._sum: Tensor | None = None
        self._steps = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """One step's metrics; nothing where there is no online probe."""
        top1 = metrics.get("online_top1")
        if top1 is not None:
            self._sum = top1.clone() if self._sum is None else self._sum + top1
            self._steps += 1

    def take(self) -> float | None:
        """The mean since the last call, or None without an online probe; every rank calls it."""
        if self._sum is None:
            return None
        mean = self.ranks.mean(self._sum.item() / self._steps)
        self._sum, self._steps = None, 0
        return mean
