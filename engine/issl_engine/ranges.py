"""Ranges of a recipe's keys, from which ``issl-engine search`` draws settings.

A place u in [0, 1) of a design becomes a value: ``at``. Ranges that are factors of the recipe's own value become whole
ones by ``around``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from issl_engine.mistakes import Mistake, did_you_mean

Edge = Literal["low", "high", "outside"]
EDGE_SHARE = 0.1
"""A value is at an edge where it lies in this share of its range at either end, on the range's own scale."""
DIGITS = 3
"""Significant digits of drawn numbers: recipes stay readable."""


class Range(ABC):
    """The values of one key that a search may try."""

    @abstractmethod
    def at(self, u: float) -> Any:
        """The value at the place ``u``, in [0, 1)."""

    @abstractmethod
    def edge(self, value: Any) -> Edge | None:
        """At which end of the range a value lies, or that it lies outside; None inside, and where there is no order."""

    @abstractmethod
    def describe(self) -> str:
        """As tables and headers show it."""

    def around(self, own: Any) -> "Range":
        """The range for a recipe whose own value is ``own``. A whole number there makes all values whole."""
        return self

    @property
    def is_open(self) -> bool:
        """Whether it holds more than one value."""
        return True


@dataclass(frozen=True)
class _Interval(Range):
    """From ``low`` to ``high``; ``whole`` numbers are rounded."""

    low: float
    high: float
    whole: bool = False

    def __post_init__(self) -> None:
        if not all(math.isfinite(end) for end in (self.low, self.high)) or self.low >= self.high:
            raise Mistake(f"a range's first number must be below its second, not [{self.low:g}, {self.high:g}]")

    def around(self, own: Any) -> Range:
        return replace(self, whole=isinstance(own, int) and not isinstance(own, bool))

    def edge(self, value: Any) -> Edge | None:
        if not self.low <= value <= self.high:
            return "outside"
        place = self.place(float(value))
        return "low" if place <= EDGE_SHARE else "high" if place >= 1 - EDGE_SHARE else None

    def _rounded(self, value: float) -> int | float:
        return round(value) if self.whole else float(f"{value:.{DIGITS}g}")

    @abstractmethod
    def place(self, value: float) -> float:
        """Where in the range a value lies, 0 to 1."""


@dataclass(frozen=True)
class Uniform(_Interval):
    """Evenly from ``low`` to ``high``."""

    def at(self, u: float) -> int | float:
        return self._rounded(self.low + u * (self.high - self.low))

    def place(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def describe(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform(_Interval):
    """Evenly in the logarithm, from ``low`` > 0 to ``high``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise Mistake(f"a range on a logarithmic scale begins above 0, not at {self.low:g}")

    def at(self, u: float) -> int | float:
        return self._rounded(self.low * (self.high / self.low) ** u)

    def place(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    def describe(self) -> str:
        return f"{self.low:g} to {self.high:g} (log)"


@dataclass(frozen=True)
class Choice(Range):
    """One of ``values``. Numbers in ascending order have edges where there are three or more."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise Mistake("a list of choices must not be empty")

    def at(self, u: float) -> Any:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def edge(self, value: Any) -> Edge | None:
        if not all(_is_number(one) for one in self.values):
            return None
        numbers = sorted(self.values)
        if not _is_number(value) or not numbers[0] <= value <= numbers[-1]:
            return "outside"
        if len(numbers) < 3:
            return None
        return "low" if value == numbers[0] else "high" if value == numbers[-1] else None

    def describe(self) -> str:
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in self.values)

    @property
    def is_open(self) -> bool:
        return len(self.values) > 1


@dataclass(frozen=True)
class Factor(Range):
    """The recipe's own value times a number from ``low`` to ``high``, evenly in the logarithm."""

    low: float
    high: float

    def __post_init__(self) -> None:
        LogUniform(self.low, self.high)

    def around(self, own: Any) -> Range:
        if not _is_number(own) or own <= 0:
            raise Mistake(f"a factor needs a value above 0 in the recipe, not {own}; give the range's ends themselves")
        return LogUniform(_short(self.low * own), _short(self.high * own)).around(own)

    def at(self, u: float) -> Any:
        raise AssertionError("a factor has no values before it is around the recipe's own")

    def edge(self, value: Any) -> Edge | None:
        raise AssertionError("a factor has no values before it is around the recipe's own")

    def describe(self) -> str:
        return f"the recipe's own x {self.low:g} to {self.high:g} (log)"


@dataclass(frozen=True)
class Multiples(Range):
    """The recipe's own value times one of ``factors``, rounded where it is a whole number; never 0 by rounding."""

    factors: tuple[float, ...]

    def around(self, own: Any) -> Range:
        if not _is_number(own):
            raise Mistake(f"factors need a number in the recipe, not {own}; give a list of choices")
        values = [factor * own for factor in self.factors]
        if isinstance(own, int):
            values = [max(1, round(value)) if value else 0 for value in values]
        return Choice(tuple(dict.fromkeys(_short(value) if isinstance(own, float) else value for value in values)))

    def at(self, u: float) -> Any:
        raise AssertionError("factors have no values before they are around the recipe's own")

    def edge(self, value: Any) -> Edge | None:
        raise AssertionError("factors have no values before they are around the recipe's own")

    def describe(self) -> str:
        return f"the recipe's own x {', '.join(f'{factor:g}' for factor in self.factors)}"


def range_of(written: Any) -> Range:
    """What a recipe writes as a range: a list of choices, or {log: [low, high]}, {uniform: ...}, {factor: ...},
    {factors: [...]}. Raises Mistake."""
    if isinstance(written, Sequence) and not isinstance(written, str):
        return Choice(tuple(written))
    if not isinstance(written, Mapping) or len(written) != 1:
        raise Mistake(
            "must be a list of choices, or one of {log: [low, high]}, {uniform: [low, high]}, {factor: [low, high]} "
            f"and {{factors: [...]}}, or null for no search of this key, not {written}"
        )
    ((kind, numbers),) = written.items()
    if kind not in KINDS:
        raise Mistake(f"unknown range '{kind}'{did_you_mean(str(kind), KINDS)} (one of: {', '.join(KINDS)})")
    if not isinstance(numbers, Sequence) or not numbers or not all(_is_number(one) for one in numbers):
        raise Mistake(f"{kind} takes a list of numbers, not {numbers}")
    if kind == "factors":
        return Multiples(tuple(numbers))
    if len(numbers) != 2:
        raise Mistake(f"{kind} takes two numbers, the lowest and the highest, not {len(numbers)}")
    low, high = map(float, numbers)
    return Uniform(low, high) if kind == "uniform" else LogUniform(low, high) if kind == "log" else Factor(low, high)


KINDS = ("log", "uniform", "factor", "factors")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
