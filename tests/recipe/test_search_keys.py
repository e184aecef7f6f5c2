"""The part of a recipe that says what a search draws: mistakes are named with their place."""

from pathlib import Path

import pytest

from issl_engine.recipe.load import RecipeError, load_recipe

ARMS = """
arms:
  simclr:
    objective: {name: simclr}
  dissl:
    objective: {name: dissl, num_classes: 32}
"""


def recipe(tmp_path: Path, search: str, arms: str = ARMS) -> Path:
    from issl_engine.recipe.locate import locate

    path = tmp_path / "x.yaml"
    path.write_text(locate("smoke").read_text().partition("arms:")[0] + search + arms)
    return path


def mistakes(path: Path, arms: list[str] | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, (), arms)
    return str(caught.value)


def test_an_unknown_key_is_named_with_its_line(tmp_path: Path) -> None:
    path = recipe(tmp_path, "search:\n  ranges:\n    optimizer.lrr: {log: [1e-4, 1e-2]}\n")
    line = path.read_text().splitlines().index("    optimizer.lrr: {log: [1e-4, 1e-2]}") + 1
    assert mistakes(path) == f"{path}:{line}: search.ranges.optimizer.lrr: unknown key; did you mean 'lr'?"


def test_an_arms_own_key_must_be_its_objectives(tmp_path: Path) -> None:
    arms = ARMS.replace("num_classes: 32}", "num_classes: 32}\n    search: {ranges: {objective.temperature: [1, 2]}}")
    said = mistakes(recipe(tmp_path, "", arms))
    assert "arms.dissl.search.ranges.objective.temperature: unknown key" in said


def test_a_shared_key_may_be_another_arms(tmp_path: Path) -> None:
    path = recipe(tmp_path, "search: {ranges: {objective.teacher_temperature: [0.25, 0.5], objective.epsilon: null}}\n")
    load_recipe(path)
    load_recipe(path, (), ["simclr"])


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("training.epochs", "equally long"),
        ("evaluation.resize", "does not change this key"),
        ("optimiser.lr", "did you mean 'optimizer'"),
        ("training", "each choice must be a mapping"),
        ("views.groups.7.size", "unknown key"),
    ],
)
def test_keys_that_no_search_draws(tmp_path: Path, key: str, sentence: str) -> None:
    from issl_engine.mistakes import Mistake
    from issl_engine.search.plan import plan_search

    path = recipe(tmp_path, f"search: {{ranges: {{{key}: [1, 2]}}}}\n")
    with pytest.raises(Mistake, match=sentence):
        plan_search(load_recipe(path), num_trials=2, seeds=None, search_seed=0)
