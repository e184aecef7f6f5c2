"""Recipes that checkpoints of earlier versions hold, and keys that are no more."""

from pathlib import Path
from typing import Any

import pytest

from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig
from issl_engine.probing.probes.linear import LinearProbeConfig
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig
from issl_engine.recipe.earlier_versions import as_of_today
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe

from .test_load import GOOD, load, mistakes

OLD: dict[str, Any] = {
    "name": "linear", "lrs": [0.1, 0.3], "weight_decays": [0.0], "batch_norm": [True], "epochs": 7, "batch_size": 64,
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_linear_probe_of_earlier_versions_is_the_one_by_sgd() -> None:
    recipe = load(GOOD).arms["simclr"].model_dump(mode="json")
    few = FewLabelsProbeConfig().model_dump(mode="json") | {"probe": OLD}
    old = recipe | {"probes": [OLD, {"name": "knn"}, few]}
    found = Recipe.model_validate(as_of_today(old)).probes
    assert found[0] == LinearSGDProbeConfig(
        lrs=(0.1, 0.3), weight_decays=(0.0,), batch_norm=(True,), epochs=7, batch_size=64
    )
    assert isinstance(found[2], FewLabelsProbeConfig)
    assert isinstance(found[2].probe, LinearSGDProbeConfig)
    assert old["probes"][0]["name"] == "linear", "the record itself stays"


def test_a_recipe_of_today_stays_as_it_is() -> None:
    recipe = load(GOOD).arms["simclr"].model_dump(mode="json")
    assert as_of_today(recipe) == recipe
    assert isinstance(Recipe.model_validate(as_of_today(recipe)).probes[0], LinearProbeConfig)
    assert as_of_today([1]) == [1]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("lrs: [0.1]", "probes.0.lrs: unknown key; linear is solved to its optimum since 0.2 and has no lrs; "),
        ("epochs: 3", "probes.0.epochs: unknown key; linear is solved to its optimum since 0.2 and has no epochs"),
        ("batch_norm: [true]", "probes.0.batch_norm: unknown key; linear calls it standardise since 0.2"),
        ("weight_decay: 1", "probes.0.weight_decay: unknown key; did you mean 'weight_decays'?"),
    ],
)  # fmt: skip
def test_keys_that_are_no_more_say_where_they_went(key: str, sentence: str) -> None:
    (line,) = mistakes(GOOD.replace("{name: linear}", f"{{name: linear, {key}}}"))
    assert sentence in line


@pytest.mark.parametrize("name", ["imagenet/e100", "imagenet/e400", "imagenet/swav_compare", "tinyimagenet/table1"])
def test_published_protocols_by_sgd_are_called_so(name: str) -> None:
    for recipe in load_recipe(name).arms.values():
        assert any(isinstance(probe, LinearSGDProbeConfig) for probe in recipe.probes)
