"""Something to time: how it starts, one step of it, how it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

WHOLE = "whole run"
CACHED = "cached step"
LOADER = "loader alone"
ENCODER = "bare encoder"
HEADS = "heads and loss"
PLAIN = "plain PyTorch"


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the time of a run: the loop waited for images, the device worked, the host did the rest."""

    data: float
    device: float
    host: float


class Work(Protocol):
    """A candidate at work."""

    def step(self) -> None:
        """What one training step takes of it: as many images as the recipe's batch has."""
        ...

    def start_of_timing(self) -> None:
        """Called after the warm-up, just before the steps that are timed."""
        ...

    def shares(self) -> Shares | None:
        """Of the steps since then; None where only a part of training runs."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """``kind``: ours (all of training), part (of ours), plain or peer (another trainer).

    ``warmup_steps`` are not timed: those for batches made ahead while nobody asked, and one more. ``flops`` are those
    of one step, None where none are made or they are not counted.
    """

    kind: str
    name: str
    start: Callable[[], Work]
    warmup_steps: int
    flops: int | None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A trainer without a number, and why."""

    name: str
    reason: str
