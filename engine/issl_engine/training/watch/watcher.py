"""What a watcher of training is: hooks that the loop calls, of which each watcher has those that it needs.

A new watcher is a file here and a line in watchers.py. It changes no weight and draws no random number: a run is the
same with and without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from issl_engine.objectives.base import Progress

if TYPE_CHECKING:  # ranks that only watch, as those of the watchdog's tests, need no DeepSpeed
    from issl_engine.training.step import StepResult


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line that is due, as every rank knows it. ``result`` of its last step; ``data_seconds``: for how long this rank
    waited for images since the line before; ``is_empty``: all its steps were left out, so that none is written."""

    done: Progress
    result: "StepResult"
    data_seconds: float
    is_empty: bool

    @property
    def is_last(self) -> bool:
        return self.done.step == self.done.total_steps


class Watcher:
    """The hooks, in the order of their calls. Every rank calls them at the same steps, unless a hook says otherwise."""

    def step_started(self, step: int) -> None:
        """Before step number ``step``, which counts from 1."""

    def step_done(self, done: Progress, result: "StepResult") -> None:
        """After the step. ``result`` lies on the device, which is not waited for here."""

    def line_due(self, line: Line) -> None:
        """Before the line is made: here the host may wait for the device, and ranks may exchange what they know."""

    def measures(self, line: Line) -> dict[str, float]:
        """Keys that a line which is not empty gets; only the first rank's count. Their time is the next line's."""
        return {}

    def line_made(self, record: Mapping[str, Any]) -> None:
        """The whole line, on the first rank alone, just before it is written."""

    def saving(self) -> None:
        """Before a checkpoint is begun."""

    def ended(self) -> None:
        """After the last step, and not where training failed or was stopped."""


class Watchers(Watcher):
    """Several as one, called in their order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._all = tuple(watchers)

    def step_started(self, step: int) -> None:
        for watcher in self._all:
            watcher.step_started(step)

    def step_done(self, done: Progress, result: "StepResult") -> None:
        for watcher in self._all:
            watcher.step_done(done, result)

    def line_due(self, line: Line) -> None:
        for watcher in self._all:
            watcher.line_due(line)

    def measures(self, line: Line) -> dict[str, float]:
        return {key: value for watcher in self._all for key, value in watcher.measures(line).items()}

    def line_made(self, record: Mapping[str, Any]) -> None:
        for watcher in self._all:
            watcher.line_made(record)

    def saving(self) -> None:
        for watcher in self._all:
            watcher.saving()

    def ended(self) -> None:
        for watcher in self._all:
            watcher.ended()
