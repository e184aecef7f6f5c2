"""Where the training loop of this process is: noted by the loop, read by the watchdog's threads."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from issl_engine.training.watch.watcher import Watcher
from issl_engine.views.batch import MultiCropBatch

if TYPE_CHECKING:  # the watchdog's threads need no DALI
    from issl_engine.loading import TrainingViews

Phase = Literal["start", "data", "step", "checkpoint", "end"]
"""Before the first batch; waiting for a batch; forward to optimiser, and its log; saving; after the loop."""


class Heartbeat(Watcher):
    """The loop's place. Every rank notes the same places in the same order, so their counts compare: the one with the
    smaller count is behind."""

    def __init__(self) -> None:
        self.place: tuple[int, int, Phase, float] = (0, 0, "start", time.monotonic())
        """(places so far, step from 1, phase, when it began on time.monotonic's clock). One object, so that a thread
        never sees half of a change."""

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """The loop goes on to ``phase``, of ``step`` or of the step before."""
        count, earlier_step, _, _ = self.place
        self.place = (count + 1, earlier_step if step is None else step, phase, time.monotonic())

    def step_started(self, step: int) -> None:
        self.enter("step", step)

    def saving(self) -> None:
        self.enter("checkpoint")

    def ended(self) -> None:
        self.enter("end")


class WatchedViews:
    """Batches as they come, the wait for each noted."""

    def __init__(self, views: "TrainingViews", heartbeat: Heartbeat) -> None:
        self._views, self._heartbeat = views, heartbeat

    def __iter__(self) -> Iterator[MultiCropBatch]:
        return self

    def __next__(self) -> MultiCropBatch:
        self._heartbeat.enter("data")
        batch = next(self._views)
        self._heartbeat.enter("step")
        return batch
