"""The settings of trials: the same points for all arms, whatever else is searched, and allowed ones alone."""

import numpy as np
import pytest

from issl_engine.mistakes import Mistake
from issl_engine.recipe.load import load_recipe
from issl_engine.search.design import points
from issl_engine.search.plan import SearchPlan, plan_search


def plan(*overrides: str, trials: int = 12, seed: int = 0) -> SearchPlan:
    return plan_search(load_recipe("swav_compare", overrides), num_trials=trials, seeds=None, search_seed=seed)


def settings(made: SearchPlan, arm: str) -> list[dict[str, object]]:
    return [dict(trial.settings) for trial in made.trials[arm]]


def test_points_cover_every_axis_and_longer_designs_begin_with_shorter_ones() -> None:
    drawn = points(64, 3)
    np.testing.assert_array_equal(points(10, 3), drawn[:10])
    for column in drawn.T[:8]:
        shares, _ = np.histogram(column, bins=4, range=(0, 1))
        assert shares.min() >= 12
    assert not np.array_equal(points(10, 4), drawn[:10])


def test_all_arms_get_equally_many_trials_and_the_same_shared_settings() -> None:
    made = plan()
    assert {len(trials) for trials in made.trials.values()} == {12}
    shared = [
        [(one.get("optimizer.lr"), one.get("optimizer.weight_decay")) for one in settings(made, arm)]
        for arm in made.trials
    ]
    assert all(one == shared[0] for one in shared)
    assert len({pair[0] for pair in shared[0]}) == 12


def test_the_first_trial_is_the_recipe_itself() -> None:
    made = plan()
    for arm, recipe in made.file.arms.items():
        assert made.trials[arm][0].recipe == recipe
        assert made.trials[arm][0].settings == {}


def test_more_trials_only_add() -> None:
    assert settings(plan(trials=20), "dissl")[:12] == settings(plan(), "dissl")
    assert settings(plan(), "dissl") == settings(plan(), "dissl")
    assert settings(plan(seed=1), "dissl") != settings(plan(), "dissl")


def test_settings_that_an_objective_finds_unfit_are_drawn_again() -> None:
    made = plan(trials=60)
    drawn = [trial.recipe.objective for trial in made.trials["dissl"]]
    assert all(one.entropy_weight >= one.invariance_weight + 1 for one in drawn)  # type: ignore[attr-defined]
    first = {one["optimizer.lr"] for one in settings(made, "dissl")[1:]}
    assert first == {one["optimizer.lr"] for one in settings(made, "simclr")[1:]}  # what is shared stays


def test_settings_that_the_recipe_refuses_are_drawn_again() -> None:
    made = plan("search.ranges={objective.num_classes: [0, 1, 32, 64]}", trials=30)
    assert {trial.recipe.objective.num_classes for trial in made.trials["dissl"]} == {32, 64}  # type: ignore[attr-defined]
    with pytest.raises(Mistake, match="arm dissl: no setting within the ranges is allowed"):
        plan("search.ranges={objective.num_classes: [0, 1]}")


def test_keys_that_belong_together_are_drawn_together() -> None:
    ramp = "{teacher_temperature_start: 2.0, teacher_temperature_ramp_steps: 20}"
    made = plan(f"arms.dissl.search.ranges={{objective: [{{}}, {ramp}], objective.teacher_temperature: null}}")
    drawn = {
        (one.recipe.objective.teacher_temperature_start, one.recipe.objective.teacher_temperature_ramp_steps)  # type: ignore[attr-defined]
        for one in made.trials["dissl"]
    }
    assert drawn == {(None, 0), (2.0, 20)}
    assert {one.recipe.objective.teacher_temperature for one in made.trials["dissl"]} == {0.5}  # type: ignore[attr-defined]


def test_a_recipe_adds_axes_and_switches_declared_ones_off() -> None:
    made = plan("search.ranges={optimizer.weight_decay: null, training.global_batch_size: {factors: [0.5, 1, 2]}}")
    keys = [axis.key for axis in made.axes["simclr"]]
    assert keys == ["optimizer.lr", "training.global_batch_size", "objective.temperature", "objective.projection_dim"]
    assert {one.recipe.training.global_batch_size for one in made.trials["simclr"]} == {64, 128, 256}
