"""Every recipe that is shipped is a recipe, and every suite a suite."""

from pathlib import Path

import pytest

from issl_engine.recipe.load import is_experiment, load_config, load_recipe, load_suite
from issl_engine.theory.schema import TheoryRecipe

FOLDER = Path(__file__).parents[1] / "recipes"
FILES = sorted(path for suffix in ("*.yaml", "*.yml") for path in FOLDER.rglob(suffix))
EXPERIMENTS = [path for path in FILES if path.parent.name == "theory"]
SUITES = [path for path in FILES if path.parent.name == "suites"]
RECIPES = [path for path in FILES if path not in EXPERIMENTS and path not in SUITES]


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 0
    assert {"swav_compare.yaml", "smoke.yaml"} <= {path.name for path in RECIPES}
    assert {path.name for path in EXPERIMENTS} >= {"dimension.yaml", "heads.yaml", "coarseness.yaml", "ceiling.yaml"}
    assert all(path.suffix == ".yaml" for path in FILES), "only *.yaml travels in the wheel"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_it_loads(path: Path) -> None:
    file = load_recipe(path)
    assert file.arms
    assert len({arm.seeds for arm in file.arms.values()}) == 1


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_loads_under_its_files_name_and_says_what_it_is(path: Path) -> None:
    suite = load_suite(path)
    assert suite.name == path.stem
    assert suite.description
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_suites_that_the_command_offers_are_there() -> None:
    assert {"basic", "few_labels", "transfer", "robustness", "fine_tuning", "full"} <= {path.stem for path in SUITES}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_an_experiment_loads(path: Path) -> None:
    assert is_experiment(path)
    recipe, text = load_config(TheoryRecipe, path)
    assert recipe.name == f"theory_{path.stem}"
    assert recipe.description
    assert len(recipe.seeds) >= 5
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES + EXPERIMENTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_its_header_says_where_it_is_from_what_it_needs_and_what_to_expect(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    for word in ("Source", "Hardware", "Expected"):
        assert word in header, f"{path}: the header lacks '{word}: ...'"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_all_its_arms_are_evaluated_alike(path: Path) -> None:
    arms = list(load_recipe(path).arms.values())
    assert all(arm.evaluation == arms[0].evaluation and arm.probes == arms[0].probes for arm in arms)
