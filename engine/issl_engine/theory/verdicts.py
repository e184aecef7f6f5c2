"""What the measured numbers say of a claim of the theory: supported, refuted or not settled.

A claim is one sentence, a quantity with one value per seed (a difference is taken within a seed, so it is paired), and
a rule: in which range the quantity lies if the claim is true. The 95 % interval of its mean, by Student's t over the
seeds, decides: wholly inside the range the claim is supported, wholly outside it is refuted, else it is not settled.
One seed has no interval, and settles nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from issl_engine.report.statistics import summarise
from issl_engine.theory.points import Point

Decision = Literal["supported", "refuted", "not settled"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim and what was measured of it."""

    sentence: str
    """What the theory says."""
    quantity: str
    """What is measured, with its unit."""
    values: tuple[float, ...]
    """One per seed."""
    above: float | None = None
    """The quantity lies above this if the claim is true."""
    below: float | None = None
    """The quantity lies below this if the claim is true."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """The least and the largest value that the quantity can have: an interval does not reach beyond."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim, decided."""

    claim: Claim
    decision: Decision
    mean: float
    low: float | None
    high: float | None
    """Ends of the 95 % interval of the mean; None for one seed."""

    @property
    def rule(self) -> str:
        """``low > 0``: what the interval must fulfil."""
        parts = []
        if self.claim.above is not None:
            parts.append(f"interval above {self.claim.above:g}")
        if self.claim.below is not None:
            parts.append(f"interval below {self.claim.below:g}")
        return " and ".join(parts)

    def __str__(self) -> str:
        interval = "one value, no interval"
        if self.low is not None and self.high is not None:
            interval = f"95 % interval {short(self.low)} to {short(self.high)}, {len(self.claim.values)} seeds"
        return (
            f"{self.decision.upper()}: {self.claim.sentence} [{self.claim.quantity}: {short(self.mean)}, {interval}; "
            f"supported by: {self.rule}]"
        )


def short(value: float) -> str:
    """Three digits, as verdicts are printed."""
    return f"{value:.3g}"


def judge(claim: Claim) -> Verdict:
    """Decides by the interval."""
    found = summarise(claim.values)
    if found.ends is None:
        return Verdict(claim=claim, decision="not settled", mean=found.mean, low=None, high=None)
    low, high = (min(max(end, claim.limits[0]), claim.limits[1]) for end in found.ends)
    floor = -float("inf") if claim.above is None else claim.above
    roof = float("inf") if claim.below is None else claim.below
    decision: Decision = "not settled"
    if low > floor and high < roof:
        decision = "supported"
    elif high <= floor or low >= roof:
        decision = "refuted"
    return Verdict(claim=claim, decision=decision, mean=found.mean, low=low, high=high)


PERCENT = (0.0, 100.0)
"""Limits of an error."""
CORRELATION = (-1.0, 1.0)
"""Limits of a correlation."""
Key = tuple[str, float, str]
"""Series, x, metric."""


def by_seed(points: Sequence[Point]) -> Callable[[Key], dict[int, float]]:
    """A look-up: the values of a (series, x, metric) by seed."""
    found: dict[Key, dict[int, float]] = {}
    for point in points:
        found.setdefault((point.series, point.x, point.metric), {})[point.seed] = point.value
    return lambda key: found.get(key, {})


def values(points: Sequence[Point], key: Key) -> tuple[float, ...]:
    """The values of one series, in the order of the seeds; empty where nothing was measured."""
    of_seed = by_seed(points)(key)
    return tuple(of_seed[seed] for seed in sorted(of_seed))


def differences(points: Sequence[Point], first: Key, second: Key) -> tuple[float, ...]:
    """First minus second within each seed that has both, in the order of the seeds."""
    look_up = by_seed(points)
    one, other = look_up(first), look_up(second)
    return tuple(one[seed] - other[seed] for seed in sorted(one.keys() & other.keys()))
