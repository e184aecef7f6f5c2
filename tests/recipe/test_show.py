"""A shown recipe is the recipe again."""

from pathlib import Path

import pytest
import yaml

from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.locate import packaged_recipes
from issl_engine.recipe.show import render, render_file


@pytest.mark.parametrize("commented", [False, True])
@pytest.mark.parametrize("name", ["smoke", "swav_compare"])
def test_a_shown_file_loads_to_the_same_arms(name: str, commented: bool, tmp_path: Path) -> None:
    file = load_recipe(name, ["name='12:30'", 'description="two\\nlines: # x"', "optimizer.weight_decay=1e-7"])
    shown = tmp_path / "shown.yaml"
    shown.write_text(render_file(file, commented=commented))
    assert load_recipe(shown).arms == file.arms


def test_one_arm_loads_to_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("smoke").arms["dissl"]
    shown = tmp_path / "shown.yaml"
    shown.write_text(render(recipe, {"peak_lr": 0.5, "steps": [1, 2]}))
    assert load_recipe(shown).arms == {"dissl": recipe}
    assert shown.read_text().endswith("#   peak_lr: 0.5\n#   steps: [1, 2]\n")


def test_an_arm_keeps_its_name_when_it_is_not_its_objectives(tmp_path: Path) -> None:
    text = render_file(load_recipe("smoke")).replace("  dissl:\n", "  mine:\n")
    shown = tmp_path / "shown.yaml"
    shown.write_text(text)
    file = load_recipe(shown, arms=["mine"])
    shown.write_text(render_file(file))
    assert load_recipe(shown).arms == file.arms
    assert list(file.arms) == ["mine"]


def test_every_key_is_there_with_its_meaning_once() -> None:
    recipe = load_recipe("smoke").arms["dissl"]
    text = render(recipe)
    meaning = "# Passes over the images that pretraining sees; fractions are allowed."
    assert text.count(meaning) == 1
    assert f"  {meaning}\n  epochs: 1.0\n" in text
    assert text.count("# Crops per image.") == 1
    assert max(map(len, text.splitlines())) <= 110


def test_plain_output_is_what_any_yaml_reader_understands() -> None:
    recipe = load_recipe("smoke").arms["dissl"]
    text = render(recipe, commented=False)
    assert "#" not in text
    assert yaml.safe_load(text) == recipe.model_dump(mode="json")


def test_packaged_recipes_have_a_title() -> None:
    titles = packaged_recipes()
    assert "smoke" in titles
    assert all(titles.values())


def test_views_of_every_kind_are_shown_with_their_meanings_and_load_again(tmp_path: Path) -> None:
    mask = "views.groups.0.mask={patch_size: 4, ratio: [0.3, 0.5], kind: block}"
    augmentation = (
        "{rotation: {degrees: [-10, 10]}, policy: {name: rand_augment, num_ops: 1, operations: [rotate, posterise]}, "
        "gaussian_noise: {std: [1, 4]}, operators: [{function: 'my_package.my_module:posterise', probability: 0.3}]}"
    )
    recipe = load_recipe("smoke", [mask, f"views.groups.0.augmentation={augmentation}"]).arms["dissl"]
    shown = render(recipe)
    for line in (
        "function: my_package.my_module:posterise",
        "operations: [rotate, posterise]",
        "# Side of a patch, in pixels; divides the crop's size.",
        "# Range of the standard deviation, in grey levels (0 to 255).",
        "# Grey level of what geometry uncovers.",
    ):
        assert shown.count(line) == 1, line
    file = tmp_path / "shown.yaml"
    file.write_text(shown)
    assert load_recipe(file).arms == {"dissl": recipe}
