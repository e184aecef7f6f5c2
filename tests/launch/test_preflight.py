"""Preflight of a lone process: data, run folder, room for checkpoints whose size is known beforehand."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from issl_engine.launch.checkpoint_size import checkpoint_bytes
from issl_engine.launch.facts import data_facts, recipe_digest
from issl_engine.launch.preflight import check_before_training, describe_ranks, look
from issl_engine.ranks import start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet, SourceError
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain

SMALL = ["source.num_train=32", "source.num_test=16", "training.global_batch_size=8", "probes=[]"]


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    return load_recipe("smoke", SMALL).arms


@pytest.fixture(scope="module")
def dataset(recipes: dict[str, Recipe]) -> Dataset:
    return recipes["simclr"].source.load()


def test_what_is_ready_leaves_nothing_behind(recipes: dict[str, Recipe], dataset: Dataset, tmp_path: Path) -> None:
    done = check_before_training(recipes, tmp_path, start_ranks(), lambda recipe: dataset)
    assert done.findings == ()
    assert describe_ranks(done) == "1 rank, CPU"
    assert done.reports[0].facts.versions.keys() == {"issl-engine", "Python", "torch", "DeepSpeed", "DALI"}
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_read_is_an_error(recipes: dict[str, Recipe], tmp_path: Path) -> None:
    def load(recipe: Recipe) -> Dataset:
        raise SourceError("/data: no images here")

    with pytest.raises(ValueError, match=r"^/data: no images here$"):
        check_before_training(recipes, tmp_path, start_ranks(), load)


def test_a_recipe_that_does_not_fit_the_data(dataset: Dataset, tmp_path: Path) -> None:
    arms = load_recipe("smoke", [*SMALL, "training.global_batch_size=64"]).arms
    assert "larger than the training split" in look(arms, tmp_path, start_ranks(), lambda recipe: dataset).errors[0]


def test_a_folder_that_cannot_be_written(recipes: dict[str, Recipe], dataset: Dataset, tmp_path: Path) -> None:
    (error,) = look(recipes, tmp_path / "nowhere", start_ranks(), lambda recipe: dataset).errors
    assert "nowhere is of no use there, as it cannot be written (No such file or directory)" in error


def test_a_disk_without_room_for_two_checkpoints(
    recipes: dict[str, Recipe], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = start_ranks()
    needed = look(recipes, tmp_path, ranks, lambda recipe: dataset).checkpoint_bytes
    assert needed is not None
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * needed))
    assert look(recipes, tmp_path, ranks, lambda recipe: dataset).errors == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * needed - 1))
    (error,) = look(recipes, tmp_path, ranks, lambda recipe: dataset).errors
    assert "MiB free, and checkpoints of this recipe will take" in error


@pytest.mark.parametrize("arm", ["simclr", "dissl"])
def test_a_checkpoint_is_no_larger_than_announced_and_not_much_smaller(
    arm: str, recipes: dict[str, Recipe], dataset: Dataset, tmp_path: Path
) -> None:
    recipe, ranks = recipes[arm], start_ranks()
    announced = checkpoint_bytes(recipe, make_plan(recipe, dataset, ranks), 1)
    checkpoint = pretrain(recipe, dataset, ranks, folder=tmp_path, seed=0)
    written = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    assert 0.5 * announced < written <= announced


def images(names: tuple[str, ...], label: int = 0) -> Dataset:
    count = len(names)
    split = ImageSet(
        labels=np.full(count, label, dtype=np.int64), sizes_HW=np.full((count, 2), 8, dtype=np.int32), paths=names
    )
    return Dataset(name="x", classes=("a", "b"), train=split, test=split)


def test_the_datas_digest_knows_names_and_labels_and_not_where_it_is_mounted() -> None:
    here = data_facts(images(("/mnt/1/cat/a.jpg", "/mnt/1/cat/b.jpg")))
    assert here == data_facts(images(("/scratch/cat/a.jpg", "/scratch/cat/b.jpg")))
    assert here != data_facts(images(("/mnt/1/cat/a.jpg", "/mnt/1/cat/c.jpg")))
    assert here != data_facts(images(("/mnt/1/cat/a.jpg", "/mnt/1/cat/b.jpg"), label=1))
    assert here.num_images == 2


def test_the_recipes_digest_knows_every_key(recipes: dict[str, Recipe]) -> None:
    other = load_recipe("smoke", [*SMALL, "arms.dissl.optimizer.lr=0.5"]).arms
    assert recipe_digest(recipes) == recipe_digest(load_recipe("smoke", SMALL).arms)
    assert recipe_digest(recipes) != recipe_digest(other)
