"""Every recipe that is shipped is a recipe."""

from pathlib import Path

import pytest

from issl_engine.recipe.load import load_recipe

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path for suffix in ("*.yaml", "*.yml") for path in FOLDER.rglob(suffix))


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 0
    assert {"swav_compare.yaml", "smoke.yaml"} <= {path.name for path in RECIPES}
    assert all(path.suffix == ".yaml" for path in RECIPES), "only *.yaml travels in the wheel"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_it_loads(path: Path) -> None:
    file = load_recipe(path)
    assert file.arms
    assert len({arm.seeds for arm in file.arms.values()}) == 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_its_header_says_where_it_is_from_what_it_needs_and_what_to_expect(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    for word in ("Source", "Hardware", "Expected"):
        assert word in header, f"{path}: the header lacks '{word}: ...'"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_all_its_arms_are_evaluated_alike(path: Path) -> None:
    arms = list(load_recipe(path).arms.values())
    assert all(arm.evaluation == arms[0].evaluation and arm.probes == arms[0].probes for arm in arms)
