"""Another probe with few labels: what an encoder is worth where labelled images are scarce."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

import issl_engine.probing.probes as probing
from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.metric_limits import cut, limits_of
from issl_engine.probing.judging.student_t import half_width
from issl_engine.probing.probes.base import FitData, Fitted, ProbeConfig, ProbeResult, Value
from issl_engine.probing.probes.fitting.cross_validation import cross_validated
from issl_engine.probing.probes.fitting.label_subsets import share_of_each_class, shots_of_each_class
from issl_engine.probing.probes.grid import FittedPoint, GridProbeConfig
from issl_engine.probing.probes.logistic import LogisticProbeConfig
from issl_engine.variants import one_of

if TYPE_CHECKING:
    AnyGridProbe = GridProbeConfig
else:
    AnyGridProbe = one_of(probing, GridProbeConfig)


class FewLabelsProbeConfig(ProbeConfig):
    """Another probe on shares of the training labels (1 %, 10 %) and on k of each class (k-shot), several draws each.

    Hyper-parameters are chosen by cross-validation inside the labelled images of a draw: a tenth of the training split,
    held out, would be more labels than the probe is said to have. With one image of a class none can choose, and the
    middle of each axis of the grid is taken.
    """

    name: Literal["few_labels"] = "few_labels"
    probe: AnyGridProbe = LogisticProbeConfig()
    """The probe that is fitted, with its own keys."""
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1)
    """Shares of each class's training images, one image at the least."""
    shots: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Labelled images of each class."""
    draws: Annotated[int, Field(ge=1)] = 5
    """Subsets of each size. They follow from the seed and the draw alone; what is reported is the mean over draws, with
    Student's t-interval (with one draw, the bootstrap's over the judged images)."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds of the cross-validation; fewer where a class has fewer images."""

    @property
    def takes_crops(self) -> bool:
        return self.probe.takes_crops

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> Self:
        if not self.fractions and not self.shots:
            raise Mistake("fractions and shots are both empty; give one of them a value")
        return self

    def fit(self, data: FitData) -> "FittedFewLabels":
        whole = self.probe.task.usable(data.train.joined(data.held_out)).in_stored_order()
        settings = {
            setting: tuple(self._fit_draw(whole.subset(chosen), data) for chosen in draws)
            for setting, draws in self._subsets(whole.labels_N, data.seed)
        }
        return FittedFewLabels(probe=self.name, settings=settings)

    def _subsets(self, labels_N: Tensor, seed: int) -> Iterator[tuple[str, list[Tensor]]]:
        """(Setting, one subset a draw)."""
        of_whom = "" if self.probe.name == "logistic" else f", {self.probe.name}"
        draws = range(self.draws)
        for fraction in self.fractions:
            subsets = [share_of_each_class(labels_N, fraction, seed=seed, draw=draw) for draw in draws]
            yield f"{100 * fraction:g} % of labels{of_whom}", subsets
        for shots in self.shots:
            yield (
                f"{shots}-shot{of_whom}",
                [shots_of_each_class(labels_N, shots, seed=seed, draw=draw) for draw in draws],
            )

    def _fit_draw(self, images: Features, data: FitData) -> FittedPoint:
        choice = cross_validated(self.probe, images, data, folds=self.folds)
        fitted = self.probe.fit_point(images, choice.point, data, held_out_value=choice.score, how=choice.how)
        return replace(fitted, grid=f"{self.probe.name}: {self.probe.search_text(choice.how)}; {self.draws} draws")


@dataclass(frozen=True, kw_only=True)
class FittedFewLabels(Fitted):
    """``settings``: its name → one fitted probe a draw."""

    probe: str
    settings: dict[str, tuple[FittedPoint, ...]]

    def judge(self, judged: Features) -> list[ProbeResult]:
        results = []
        for setting, draws in self.settings.items():
            by_draw = [fitted.judge(judged) for fitted in draws]
            results += [self._over_draws(setting, list(of_metric)) for of_metric in zip(*by_draw, strict=True)]
        return results

    def state(self) -> dict[str, Tensor | Value]:
        return {
            f"{setting}, draw {draw}, {key}": value
            for setting, draws in self.settings.items()
            for draw, fitted in enumerate(draws)
            for key, value in fitted.state().items()
        }

    def _over_draws(self, setting: str, results: list[ProbeResult]) -> ProbeResult:
        first = results[0]
        values = tuple(result.value for result in results)
        mean = sum(values) / len(values)
        half = half_width(values) if len(values) > 1 else None
        limits = limits_of(first.metric)
        chosen_by = [result.held_out_value for result in results if result.held_out_value is not None]
        return replace(
            first,
            probe=self.probe,
            value=mean,
            setting=", ".join(part for part in (setting, first.setting) if part),
            interval=first.interval if half is None else cut((mean - half, mean + half), limits),
            right_N=first.right_N if half is None else None,
            draws=values,
            optimality_gap=None
            if first.optimality_gap is None
            else max(result.optimality_gap or 0 for result in results),
            held_out_value=sum(chosen_by) / len(chosen_by) if chosen_by else None,
            chosen={name: _one_or_all([result.chosen[name] for result in results]) for name in first.chosen},
        )


def _one_or_all(values: list[Value]) -> Value:
    """What all draws chose, or each draw's choice in words."""
    return values[0] if len(set(values)) == 1 else " / ".join(map(str, values))
