"""Where the time of training goes between two logged lines: waiting for data, the device, the host."""

import time
from types import TracebackType

import torch
from torch import Tensor

from issl_engine.objectives.base import Progress


class DeviceTimer:
    """Seconds that the device spends on what is done inside ``with timer``, without waiting for it there.

    On a GPU by events in its stream, elsewhere by the clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds, self._started = 0.0, 0.0

    def __enter__(self) -> None:
        if self._on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._spans.append((start, end))
            start.record()
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_gpu:
            self._spans[-1][1].record()
        else:
            self._seconds += time.perf_counter() - self._started

    def take(self) -> float:
        """Seconds since the last call. On a GPU waits until the last of the steps is done."""
        if self._spans:
            self._spans[-1][1].synchronize()
            self._seconds = sum(start.elapsed_time(end) for start, end in self._spans) / 1000
        seconds, self._seconds = self._seconds, 0.0
        self._spans.clear()
        return seconds


class Interval:
    """Mean loss, images per second and shares of the time since the last logged line.

    ``data_fraction`` is the share in which the loop waited for images, ``device_fraction`` the one in which the device
    worked on steps, ``host_fraction`` what is left: logging, checkpoints, Python between the steps.
    """

    def __init__(self, global_batch_size: int, device: torch.device) -> None:
        self.global_batch_size = global_batch_size
        self.device = device
        self.step_timer = DeviceTimer(device)
        self._reset()

    def _reset(self) -> None:
        self.steps, self.data_seconds = 0, 0.0
        # On the device: their values are needed at the next line only, and asking for them waits for the steps.
        self.loss, self.skipped = torch.zeros(2, dtype=torch.float64, device=self.device).unbind()
        self.started = time.perf_counter()

    def add(self, loss: Tensor | float, data_seconds: float, skipped: Tensor | float = 0.0) -> None:
        """One step that was made inside ``with interval.step_timer``; ``data_seconds`` of it went by without data. Its
        loss does not count where ``skipped`` is 1 instead of 0. Scalars on the device are not waited for."""
        loss, skipped = (torch.as_tensor(value, device=self.device) for value in (loss, skipped))
        self.steps += 1
        self.loss = self.loss + torch.where(skipped > 0, 0.0, loss.double())
        self.skipped = self.skipped + skipped
        self.data_seconds += data_seconds

    def all_skipped(self) -> bool:
        """Whether no step has counted so far: there is no loss to report then. Waits for the device."""
        return self.steps == float(self.skipped)

    def close(self, progress: Progress, lr: float) -> dict[str, float]:
        """The record of the interval, of which at least one step has counted; the next one begins."""
        device_seconds = self.step_timer.take() - self.data_seconds
        seconds = time.perf_counter() - self.started
        data, device = self.data_seconds / seconds, max(0.0, device_seconds / seconds)
        record = {
            "step": progress.step,
            "epoch": round(progress.epoch, 6),
            "loss": float(self.loss) / (self.steps - float(self.skipped)),
            "lr": lr,
            "images_per_second": self.steps * self.global_batch_size / seconds,
            "data_fraction": data,
            "device_fraction": device,
            "host_fraction": max(0.0, 1 - data - device),
        }
        self._reset()
        return record
