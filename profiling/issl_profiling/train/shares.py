"""Where the time of another trainer goes, by the clock that our own training is measured with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from issl_engine.training.watch.balance import DeviceTimer
from issl_profiling.train.candidate import Shares


class SharesClock:
    """Waiting for images, and the device's work in steps; the rest is the host's."""

    def __init__(self, device: torch.device) -> None:
        self._timer = DeviceTimer(device)
        self.restart()

    def restart(self) -> None:
        self._timer.take()
        self._waited_seconds = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step, the wait for its images included."""
        with self._timer:
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for images."""
        asked = time.perf_counter()
        yield
        self._waited_seconds += time.perf_counter() - asked

    def shares(self) -> Shares:
        """Since the last restart."""
        in_steps = self._timer.take()
        seconds = time.perf_counter() - self._started
        data = self._waited_seconds / seconds
        device = max(0.0, (in_steps - self._waited_seconds) / seconds)
        return Shares(data=data, device=device, host=max(0.0, 1 - data - device))
