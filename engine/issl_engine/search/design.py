"""Which settings a trial has: one low-discrepancy design for all arms (Halton 1960, scrambled after Owen 2017).

Trial 0 of each arm is the recipe as it is. Trial k takes point k − 1 of the design, so more trials only add points,
and arms that are searched alone get the points that they get among others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.mistakes import Mistake
from issl_engine.recipe.load import RecipeError, change_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.search.axes import Axis, value_at

MOST_AXES = 32
"""Columns of the design."""
MOST_DRAWS = 200
"""Attempts for one trial before a search gives up."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of one arm: what was drawn (nothing for trial 0), and the recipe with it."""

    arm: str
    number: int
    settings: Mapping[str, Any]
    recipe: Recipe
    """The user's recipe with the settings; what a search changes besides is not in it."""


def points(num_points: int, search_seed: int) -> NDArray[np.float64]:
    """[num_points, MOST_AXES] in [0, 1); the first points of a longer design are those of a shorter one."""
    from scipy.stats import qmc  # takes a second to load

    halton = qmc.Halton(d=MOST_AXES, scramble=True, seed=np.random.default_rng(search_seed))
    drawn: NDArray[np.float64] = halton.random(num_points)
    return drawn


def draw_trials(
    arm: str, recipe: Recipe, axes: Sequence[Axis], *, shared: Sequence[str], num_trials: int, search_seed: int
) -> list[Trial]:
    """Trial 0 and the drawn ones. ``shared`` are the shared keys of all arms, in the order of the design's columns.

    A setting that the recipe refuses is drawn again, in the arm's own keys alone while that helps. Raises Mistake where
    no setting is found.
    """
    own = [axis.key for axis in axes if not axis.is_shared]
    columns = {key: place for place, key in enumerate([*shared, *own])}
    if len(columns) > MOST_AXES:
        raise Mistake(
            f"arm {arm}: a search varies at most {MOST_AXES} keys, not {len(columns)}; set some ranges to null"
        )
    design = points(num_trials, search_seed)
    trials = [Trial(arm=arm, number=0, settings={}, recipe=recipe)]
    for number in range(1, num_trials):
        place = {axis.key: float(design[number - 1, columns[axis.key]]) for axis in axes}
        settings, changed = _first_that_fits(arm, recipe, axes, place, number, search_seed)
        trials.append(Trial(arm=arm, number=number, settings=settings, recipe=changed))
    return trials


def _first_that_fits(
    arm: str, recipe: Recipe, axes: Sequence[Axis], place: dict[str, float], number: int, search_seed: int
) -> tuple[dict[str, Any], Recipe]:
    again = np.random.default_rng([search_seed, number])
    refusal = ""
    for attempt in range(MOST_DRAWS):
        settings = {axis.key: axis.range.at(place[axis.key]) for axis in axes}
        try:
            changed = change_recipe(recipe, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
        except RecipeError as error:
            refusal = str(error)
        else:
            refusal = changed.objective.unfit_for_search() or ""
            if not refusal:
                return {
                    key: value_at(changed, key) if not isinstance(value, Mapping) else value
                    for key, value in settings.items()
                }, changed
        kept = attempt < MOST_DRAWS // 2 and any(not axis.is_shared for axis in axes)
        place = {axis.key: place[axis.key] if kept and axis.is_shared else float(again.random()) for axis in axes}
    raise Mistake(
        f"arm {arm}: no setting within the ranges is allowed ({refusal}); narrow search.ranges, or set one to null"
    )
