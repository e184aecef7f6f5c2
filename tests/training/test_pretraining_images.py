"""What pretraining sees where that is not the training split: images without classes, or a share of the images; probes
keep the labelled splits."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from issl_engine.ranks import start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.run.arm import probe_encoder
from issl_engine.run.dataset import content_of, load_dataset
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints.encoder import load_encoder
from issl_engine.training.checkpoints.verify import latest_checkpoint
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.interruption import Interrupted

from .conftest import BATCH, NUM_TRAIN, make_images, make_recipe

NUM_UNLABELLED = 3 * BATCH


@pytest.fixture
def unlabelled(dataset: Dataset) -> Dataset:
    images = make_images(NUM_UNLABELLED, 2)
    return replace(dataset, pretrain=replace(images, labels=np.full(NUM_UNLABELLED, -1)))


def weights(folder: Path) -> bytes:
    checkpoint = latest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return (checkpoint / "encoder.safetensors").read_bytes()


def test_steps_and_limits_are_those_of_the_pretraining_images(dataset: Dataset, unlabelled: Dataset) -> None:
    ranks = start_ranks()
    assert make_plan(make_recipe(), dataset, ranks).steps_per_epoch == NUM_TRAIN // BATCH
    assert make_plan(make_recipe(online_probe=None), unlabelled, ranks).steps_per_epoch == NUM_UNLABELLED // BATCH
    recipe = make_recipe(online_probe=None, training={"epochs": 1, "global_batch_size": 32})
    with pytest.raises(ValueError, match=r"\(32\) is larger than the unlabelled images of tiny \(24 images\)"):
        make_plan(recipe, unlabelled, ranks)


def test_pretraining_reads_only_them(dataset: Dataset, unlabelled: Dataset, tmp_path: Path) -> None:
    """As if they were the training split: other images there change nothing."""
    assert unlabelled.pretrain is not None
    recipe, ranks = make_recipe(online_probe=None), start_ranks()
    for name in ("a", "b", "c", "other"):
        (tmp_path / name).mkdir()
    pretrain(recipe, unlabelled, ranks, folder=tmp_path / "a", seed=0)
    pretrain(recipe, replace(unlabelled, train=make_images(9, 7)), ranks, folder=tmp_path / "b", seed=0)
    pretrain(recipe, replace(dataset, train=unlabelled.pretrain), ranks, folder=tmp_path / "c", seed=0)
    pretrain(recipe, dataset, ranks, folder=tmp_path / "other", seed=0)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == weights(tmp_path / "c")
    assert weights(tmp_path / "a") != weights(tmp_path / "other")


def test_an_online_probe_is_refused_before_anything_is_written(unlabelled: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^online_probe: tiny is pretrained on images without classes, .* to null$"):
        pretrain(make_recipe(), unlabelled, start_ranks(), folder=tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


def test_probes_are_fitted_on_the_labelled_training_split(unlabelled: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(online_probe=None, probes=[{"name": "knn"}])
    checkpoint = pretrain(recipe, unlabelled, start_ranks(), folder=tmp_path, seed=0)
    encoder, _, _ = load_encoder(checkpoint)
    (result,) = probe_encoder(encoder, recipe, unlabelled, seed=0, ranks=start_ranks())
    assert result.num_train_images == NUM_TRAIN
    assert result.num_split_images == len(unlabelled.test)


def test_interrupted_and_resumed_is_uninterrupted(unlabelled: Dataset, tmp_path: Path) -> None:
    def stop(record: dict[str, float], total_steps: int) -> None:
        assert total_steps == 2 * NUM_UNLABELLED // BATCH
        if record["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = make_recipe(online_probe=None)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    pretrain(recipe, unlabelled, start_ranks(), folder=tmp_path / "whole", seed=0)
    with pytest.raises(Interrupted, match="step 2 of 6"):
        pretrain(recipe, unlabelled, start_ranks(), folder=tmp_path / "parts", seed=0, on_log=stop)
    pretrain(recipe, unlabelled, start_ranks(), folder=tmp_path / "parts", seed=0)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_a_share_is_balanced_and_the_same_each_time(dataset: Dataset) -> None:
    few = dataset.with_share(0.3)
    images = few.pretraining_images
    assert np.bincount(images.labels).tolist() == [3, 3, 3, 3]
    assert few.places is not None
    assert few.places.tolist() == dataset.with_share(0.3).places.tolist()  # type: ignore[union-attr]
    assert set(dataset.with_share(0.1).places.tolist()) < set(few.places.tolist())  # type: ignore[union-attr]
    assert len(dataset.with_share(1.0).pretraining_images) == NUM_TRAIN
    with pytest.raises(ValueError, match=r"training.image_share \(0.01\) of the 40 images of tiny is none"):
        dataset.with_share(0.01)


def test_a_share_of_images_without_classes_is_some_of_them(unlabelled: Dataset) -> None:
    assert len(unlabelled.with_share(0.5).pretraining_images) == NUM_UNLABELLED // 2


def test_pretraining_sees_the_share_and_probes_all(dataset: Dataset, tmp_path: Path) -> None:
    few = dataset.with_share(0.4)
    recipe, ranks = make_recipe(probes=[{"name": "knn"}]), start_ranks()
    assert make_plan(recipe, few, ranks).steps_per_epoch == round(0.4 * NUM_TRAIN) // BATCH
    for name in ("share", "alone"):
        (tmp_path / name).mkdir()
    checkpoint = pretrain(recipe, few, ranks, folder=tmp_path / "share", seed=0)
    pretrain(recipe, replace(dataset, train=few.pretraining_images), ranks, folder=tmp_path / "alone", seed=0)
    assert weights(tmp_path / "share") == weights(tmp_path / "alone")
    encoder, _, _ = load_encoder(checkpoint)
    (result,) = probe_encoder(encoder, recipe, few, seed=0, ranks=ranks)
    assert result.num_train_images == NUM_TRAIN
    assert content_of(few) == content_of(dataset), "one fingerprint: controls and features are shared"


def test_a_batch_larger_than_the_share_is_named(dataset: Dataset) -> None:
    recipe = make_recipe(training={"epochs": 1, "global_batch_size": 8, "image_share": 0.1})
    with pytest.raises(ValueError, match=r"\(8\) is larger than training.image_share \(0.1\) of the training split"):
        make_plan(recipe, dataset.with_share(0.1), start_ranks())


def test_a_recipes_share_is_loaded_with_its_source() -> None:
    whole = load_recipe("smoke").arms
    recipe = next(iter(whole.values()))
    share = recipe.model_copy(update={"training": recipe.training.model_copy(update={"image_share": 0.5})})
    num_images = len(load_dataset(recipe).pretraining_images)
    assert len(load_dataset(share).pretraining_images) == num_images // 2
    assert len(load_dataset(share).train) == num_images
    assert load_dataset(share) is load_dataset(share)
