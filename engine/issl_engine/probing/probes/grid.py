"""Probes with a grid of hyper-parameters: the one place where held-out images choose among its points.

Letters: S points of the grid.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.task import Task
from issl_engine.probing.probes.base import FitData, Fitted, ProbeConfig, ProbeResult, Value
from issl_engine.probing.probes.fitting.predictor import Predictor

_log = logging.getLogger("issl_engine")

Point = dict[str, Value]
"""Hyper-parameter → value."""


@dataclass(frozen=True, kw_only=True)
class FittedPoint(Fitted):
    """One point of the grid, fitted on ``num_train_images``."""

    probe: str
    task: Task
    predictor: Predictor
    chosen: Point
    held_out_value: float | None
    grid: str
    num_train_images: int
    seed: int
    device: torch.device

    def judge(self, judged: Features) -> list[ProbeResult]:
        usable = self.task.usable(judged)
        return [
            ProbeResult(
                probe=self.probe,
                metric=verdict.metric,
                value=verdict.value,
                split="test",
                num_train_images=self.num_train_images,
                num_split_images=verdict.num_images,
                held_out_value=self.held_out_value,
                setting=verdict.setting,
                interval=verdict.interval,
                right_N=verdict.right_N,
                optimality_gap=None if self.predictor.gaps is None else max(self.predictor.gaps),
                chosen=self.chosen,
                grid=self.grid,
                seed=self.seed,
            )
            for verdict in self.task.judge(self.predictor, usable, self.device, self.seed)
        ]

    def state(self) -> dict[str, Tensor | Value]:
        return {**self.predictor.state(), **self.chosen}


class GridProbeConfig(ProbeConfig):
    """Base of probes that fit all points of a grid and keep one."""

    @property
    def task(self) -> Task:
        """What is predicted, and how it is judged."""
        raise AssertionError(f"{type(self).__name__} must implement task")

    @property
    def largest_gap(self) -> float | None:
        """Nats that a fit should be above its optimum at the most; None where fits have no such bound."""
        return None

    def axes(self) -> dict[str, tuple[Value, ...]]:
        """Hyper-parameter → the values of the grid; the first has the slowest index."""
        raise AssertionError(f"{type(self).__name__} must implement axes")

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> Predictor:
        """All ``points`` (whole grid, in order, or one of it) fitted on ``features``; of ``data`` only the number of
        classes, the seed and the device count."""
        raise AssertionError(f"{type(self).__name__} must implement fit_points")

    def describe(self) -> str:
        """What else there is to know of how points are fitted; empty for nothing."""
        return ""

    def fit(self, data: FitData) -> FittedPoint:
        train, held_out = self.task.usable(data.train), self.task.usable(data.held_out)
        points = self.points()
        scores = self.scores(train, held_out, points, data)
        best = best_of(scores)
        how = "chosen on held-out training images"
        return self.fit_point(train.joined(held_out), points[best], data, held_out_value=scores[best], how=how)

    def scores(self, fit: Features, score: Features, points: Sequence[Point], data: FitData) -> list[float]:
        """How well each of ``points``, fitted on ``fit``, does on ``score``; the higher the better."""
        return self.task.scores(self._fitted(fit, points, data), score, data.device)

    def points(self) -> list[Point]:
        """The grid; a value given twice is one value."""
        axes = {name: tuple(dict.fromkeys(values)) for name, values in self.axes().items()}
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]

    def middle(self) -> Point:
        """The middle value of each axis (the lower of two), for choices that no image can make."""
        return {name: values[(len(values) - 1) // 2] for name, values in self.axes().items()}

    def fit_point(
        self, features: Features, point: Point, data: FitData, *, held_out_value: float | None, how: str
    ) -> FittedPoint:
        """``point`` alone on ``features``; ``how`` says in words what chose it."""
        return FittedPoint(
            probe=self.name,
            task=self.task,
            predictor=self._fitted(features, [point], data),
            chosen=point,
            held_out_value=held_out_value,
            grid=self.grid_text(point, how),
            num_train_images=len(features),
            seed=data.seed,
            device=data.device,
        )

    def _fitted(self, features: Features, points: Sequence[Point], data: FitData) -> Predictor:
        """``fit_points``, with a warning of each point that is not near enough to its optimum."""
        predictor = self.fit_points(features, points, data)
        if self.largest_gap is not None and predictor.gaps is not None:
            for point, gap in zip(points, predictor.gaps, strict=True):
                if not gap <= self.largest_gap:
                    _log.warning(
                        "the probe %s at %s may be %.2g nats above its optimum, more than its tolerance of %g; raise "
                        "max_iterations, or tolerance if that will do",
                        self.name, _shown(point), gap, self.largest_gap,
                    )  # fmt: skip
        return predictor

    def grid_text(self, chosen: Point, how: str) -> str:
        """The grid in words, and on which of its edges the choice lies."""
        text = self.search_text(how)
        for name, values in self.axes().items():
            if _at_edge(chosen[name], values):
                text += f"; the chosen {_words(name)} is at the grid's edge"
        return text

    def search_text(self, how: str) -> str:
        """The grid in words, whatever was chosen."""
        text = " x ".join(f"{_words(name)} {_listed(values)}" for name, values in self.axes().items())
        return ", ".join(part for part in (text, self.describe(), how) if part)


def best_of(scores: Sequence[float]) -> int:
    """Place of the highest, the first of equals; a score that does not exist (NaN) is below all others."""
    return max(range(len(scores)), key=lambda place: -math.inf if math.isnan(scores[place]) else scores[place])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(point: Point) -> str:
    return ", ".join(f"{_words(name)} {_text(value)}" for name, value in point.items())


def _listed(values: Sequence[Value]) -> str:
    return "{" + ", ".join(_text(value) for value in values) + "}"


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"


def _at_edge(value: Value, values: Sequence[Value]) -> bool:
    """Whether a larger or a smaller value might have been better. Nothing lies below a penalty of 0 or a k of 1."""
    numbers = [float(v) for v in values if not isinstance(v, bool | str)]
    if isinstance(value, bool | str) or len(set(numbers)) < 2:
        return False
    at_nature_end = value == 0 or (isinstance(value, int) and value == 1)
    return value in (min(numbers), max(numbers)) and not at_nature_end
