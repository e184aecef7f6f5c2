"""run --smoke: the same arms, cut down to a few steps on drawn images."""

import pytest

from issl_engine.mistakes import Mistake
from issl_engine.recipe import smoke as module
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.recipe.smoke import smoke

PAPER = ("tinyimagenet/table1", "imagenet/e100", "imagenet/e400", "imagenet/swav_compare", "fashion_mnist/paper")
SAME = ("views", "encoder", "objective", "optimizer", "deepspeed", "online_probe", "controls")
"""What a smoke run must not change: what may fail in it is what it is for."""


def both(name: str) -> list[tuple[Recipe, Recipe]]:
    file = load_recipe(name)
    cut = smoke(file)
    assert list(cut.arms) == list(file.arms)
    return list(zip(file.arms.values(), cut.arms.values(), strict=True))


@pytest.mark.parametrize("name", PAPER)
def test_it_keeps_what_is_trained_and_how(name: str) -> None:
    for whole, cut in both(name):
        assert all(getattr(cut, key) == getattr(whole, key) for key in SAME)
        assert [probe.name for probe in cut.probes] == [probe.name for probe in whole.probes]
        assert cut.training.precision == whole.training.precision
        assert (cut.evaluation.resize, cut.evaluation.crop) == (whole.evaluation.resize, whole.evaluation.crop)


@pytest.mark.parametrize("name", PAPER)
def test_it_takes_three_steps_on_200_drawn_images_and_needs_no_files(name: str) -> None:
    for _, cut in both(name):
        dataset = cut.source.load()
        assert len(dataset.train) + len(dataset.test) == 200
        steps = cut.training.epochs * len(dataset.train) / cut.training.global_batch_size
        assert steps == pytest.approx(3)
        assert cut.seeds == (0,)


def test_nobody_takes_it_for_a_result() -> None:
    for whole, cut in both("tinyimagenet/table1"):
        assert cut.name == f"{whole.name}_smoke"
        assert "mean nothing" in cut.description


def test_a_recipe_that_cannot_be_cut_down_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"name": "shapes", "num_train": 160, "num_test": 40, "image_size": 1}
    monkeypatch.setattr(module, "_shapes", lambda _: shapes)
    with pytest.raises(
        Mistake, match=r"^recipe 'smoke' does not work .* \(source\..*image_size: must be at least .*leave --smoke out$"
    ):
        smoke(load_recipe("smoke"))
