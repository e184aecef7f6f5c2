"""The trials of an arm in the order of their scores, the chosen one, and whether it lies at an edge of its ranges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issl_engine.layout import trial_folder
from issl_engine.ranges import Edge
from issl_engine.search.axes import Axis, value_at
from issl_engine.search.design import Trial
from issl_engine.search.outcome import Outcome, read_outcome
from issl_engine.search.plan import SearchPlan


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial that is done."""

    trial: Trial
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """``ranked``: the trials that are done, the best first; of equal ones the earlier."""

    arm: str
    axes: Sequence[Axis]
    ranked: Sequence[Tried]

    @property
    def chosen(self) -> Tried:
        """Where all have failed, the recipe's own setting."""
        return self.ranked[0]

    @property
    def edges(self) -> dict[str, Edge]:
        """Key → the edge of its range at which the chosen value lies, for those at one."""
        return edges_of(self.chosen.trial, self.axes)


def results_in(out: Path, plan: SearchPlan) -> list[ArmResult]:
    """Of every arm that has a trial done, as the files in ``out`` say."""
    results = []
    for arm, trials in plan.trials.items():
        done = [
            Tried(trial=trial, outcome=outcome)
            for trial in trials
            if (outcome := read_outcome(trial_folder(out, arm, trial.number), plan.recipe_of(trial))) is not None
        ]
        if done:
            results.append(ArmResult(arm=arm, axes=plan.axes[arm], ranked=ranked(done)))
    return results


def ranked(tried: Iterable[Tried]) -> list[Tried]:
    """The best first."""
    return sorted(tried, key=lambda one: (-one.outcome.key(), one.trial.number))


def values_of(trial: Trial, axes: Sequence[Axis]) -> dict[str, Any]:
    """Key → the trial's value; of a choice of several keys what was drawn, None in the recipe's own setting."""
    values = {}
    for axis in axes:
        own = value_at(trial.recipe, axis.key)
        values[axis.key] = trial.settings.get(axis.key) if isinstance(own, Mapping) else own
    return values


def edges_of(trial: Trial, axes: Sequence[Axis]) -> dict[str, Edge]:
    """Key → the edge at which the trial's value lies, for those at one."""
    values = values_of(trial, axes)
    found = {axis.key: None if values[axis.key] is None else axis.range.edge(values[axis.key]) for axis in axes}
    return {key: edge for key, edge in found.items() if edge is not None}
