"""Names a rank that is slower than the others by its own doing.

All ranks of a step end together, so that only the time before a rank first waits for the others differs. That
is the time in which it waits for images, and that of its encoder's forward pass: what communicates (objectives, the
gradients' sum) comes after it. Where batch-norm communicates inside the encoder, it is timed up to the first such layer
only; where such an encoder is compiled, not at all, and ranks are compared by their wait for images alone.

No clock is compared with another's, and nothing is waited for: on a GPU the forward pass is timed by events in its
stream, read at the logged line. There, ranks exchange two numbers each.

Letters: W ranks.
"""

import logging
import statistics
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor, nn

from issl_engine.ranks import Ranks
from issl_engine.training.watch.balance import DeviceTimer
from issl_engine.training.watch.watcher import Line, Watcher

_log = logging.getLogger("issl_engine")

SLOW_RATIO = 1.5
SLOW_LINES = 3


class OwnWork:
    """Times, inside ``with``, the forward pass of an encoder up to where it first waits for other ranks."""

    def __init__(self, encoder: nn.Module, device: torch.device, *, compiled: bool) -> None:
        self._timer = DeviceTimer(device)
        self._running = False
        layers = [module for module in encoder.modules() if _communicates(module)]
        self.is_timed = not (layers and compiled)
        if self.is_timed:
            for layer in layers:  # all of them: which runs first is the encoder's affair
                layer.register_forward_pre_hook(lambda *_: self._stop())

    def __enter__(self) -> None:
        if self.is_timed:
            self._timer.__enter__()
            self._running = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            self._timer.__exit__(None, None, None)

    def take(self) -> float:
        """Seconds since the last call; 0 where it is not known. On a GPU waits until that work is done."""
        return self._timer.take()


class SlowRankAlarm(Watcher):
    """Warns once of a rank whose own time was over 1.5 times the median's in three logged lines in a row. Every rank
    must make it, with its own ``own_work``."""

    def __init__(self, ranks: Ranks, own_work: OwnWork) -> None:
        self.ranks, self.own_work = ranks, own_work
        self.hosts = ranks.gather(ranks.host)
        self._slow_lines = [0] * ranks.world_size
        self._named: set[int] = set()

    def line_due(self, line: Line) -> None:
        if not line.is_empty:
            self.observe(line.data_seconds, self.own_work.take(), line.done.step)

    def observe(self, data_seconds: float, compute_seconds: float, step: int) -> list[int]:
        """This rank's own times since the last line; every rank must call it. Returns the ranks named by it, in rank
        0's log."""
        if self.ranks.group is None:
            return []
        own = torch.tensor([data_seconds, compute_seconds], dtype=torch.float32, device=self.ranks.device)
        times = [torch.empty_like(own) for _ in range(self.ranks.world_size)]
        dist.all_gather(times, own, group=self.ranks.group)
        return self.judge(torch.stack(times), step)

    def judge(self, times_W2: Tensor, step: int) -> list[int]:
        """``times_W2``: seconds in data and in compute of each rank. Returns the ranks named by it."""
        data, compute = times_W2.T.tolist()
        totals = [sum(pair) for pair in zip(data, compute, strict=True)]
        usual = statistics.median_low(totals)  # of two ranks the faster: their mean would hide the slower
        named = []
        for rank, total in enumerate(totals):
            self._slow_lines[rank] = self._slow_lines[rank] + 1 if total > SLOW_RATIO * usual else 0
            if self._slow_lines[rank] < SLOW_LINES or rank in self._named:
                continue
            self._named.add(rank)
            named.append(rank)
            more_data = data[rank] - statistics.median_low(data)
            more_compute = compute[rank] - statistics.median_low(compute)
            if self.ranks.is_first:
                _log.warning("%s", self._sentence(rank, total, usual, step, data_is_slow=more_data > more_compute))
        return named

    def _sentence(self, rank: int, total: float, usual: float, step: int, *, data_is_slow: bool) -> str:
        what, look = (
            ("it waits for images", "its storage, and its share of the host's cores")
            if data_is_slow
            else ("its computing is slow", "other processes, the temperature and the clock of its device")
        )
        return (
            f"step {step}: rank {rank} on host {self.hosts[rank]} took {total:.2f} s since the last line for what took "
            f"others {usual:.2f} s, and all wait for it: {what}; look at {look}"
        )


def _communicates(module: nn.Module) -> bool:
    """Whether it is a batch-norm over several ranks: torch's, or one that has a group."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return isinstance(module, nn.SyncBatchNorm) or getattr(module, "group", None) is not None
