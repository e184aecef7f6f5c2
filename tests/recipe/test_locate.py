"""Recipes are found by path or by packaged name."""

from pathlib import Path

import pytest

from issl_engine.recipe.locate import (
    RecipeError,
    locate,
    locate_suite,
    packaged_recipes,
    packaged_suites,
    recipes_folder,
)


@pytest.mark.parametrize("name", ["smoke", "smoke.yaml", "recipes/smoke.yaml", "recipes/smoke"])
def test_a_packaged_recipe_needs_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(name) == recipes_folder() / "smoke.yaml"


def test_a_path_wins_over_a_packaged_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke.yaml").write_text("name: mine\n")
    assert locate("smoke.yaml") == Path("smoke.yaml")


def test_a_folder_of_the_same_name_does_not_hide_a_packaged_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()
    assert locate("smoke") == recipes_folder() / "smoke.yaml"


def test_an_unknown_name_gets_a_suggestion_and_the_command_that_lists_them() -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'smoke'\? see 'issl-engine list recipes'"):
        locate("smokee")


def test_every_yaml_below_the_folder_has_a_name() -> None:
    names, suites = packaged_recipes(), packaged_suites()
    assert len(names) + len(suites) == len(list(recipes_folder().rglob("*.yaml"))) > len(suites) > 0
    assert all(locate(name).is_file() for name in names)
    assert all(locate_suite(name).is_file() for name in suites)


@pytest.mark.parametrize("name", ["basic", "basic.yaml", "recipes/suites/basic.yaml"])
def test_a_packaged_suite_needs_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate_suite(name) == recipes_folder() / "suites" / "basic.yaml"


def test_a_suite_is_no_recipe_and_a_recipe_no_suite() -> None:
    with pytest.raises(RecipeError, match="no packaged recipe has this name"):
        locate("suites/basic")
    with pytest.raises(RecipeError, match="no packaged suite has this name; see 'issl-engine list suites'"):
        locate_suite("smoke")
