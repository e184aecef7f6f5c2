"""What is measured after training: on which images and views, with which optimum, of which weights."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_engine.diagnosis.diagnose import diagnose, diagnose_learner
from issl_engine.diagnosis.meaning import what_it_says
from issl_engine.diagnosis.measure import Diagnosis, as_json, measure_representation, measure_views
from issl_engine.diagnosis.objective_state import recorded_outputs
from issl_engine.diagnosis.view_features import global_views, view_features
from issl_engine.models.heads import LinearHead
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.splits import at_most, split_features, split_images
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.training.checkpoints.learner import load_learner
from issl_engine.training.pretrain import pretrain
from issl_engine.views.config import ViewsConfig

UNCHANGED = ViewsConfig.model_validate(
    {
        "groups": [{"count": 2, "size": 16, "area": [1.0, 1.0], "ratio": [1.0, 1.0]}, {"count": 3, "size": 8}],
        "augmentation": {"flip": 0.0, "colour_jitter": None, "greyscale": 0.0},
        "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
    }
)  # fmt: skip
"""Global views that are the whole image, as it is."""


def make_images(count: int, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 4
    return ImageSet(labels=labels, sizes_HW=np.full((count, 2), 16, dtype=np.int32), pixels=pixels)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40), test=make_images(30, 1))


def make_recipe(objective: dict) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny", "source": {"name": "shapes"}, "encoder": {"name": "small_resnet", "width": 4, "dim": 16},
            "views": {"groups": [{"count": 2, "size": 16, "area": [0.3, 1.0]}, {"count": 1, "size": 8}]},
            "objective": objective, "optimizer": {"name": "adamw", "lr": 0.003}, "probes": [],
            "training": {"epochs": 0.4, "global_batch_size": 8, "log_every_steps": 1, "threads": 1},
            "evaluation": {"resize": 16, "crop": 16}, "data": {"decode_threads": 1},
        }
    )  # fmt: skip


class Pixels(nn.Module):
    """Gives the pixels of one corner: which image it was is plain to see."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, :2, :2].flatten(1)


def test_every_image_gets_its_own_views_in_its_own_row() -> None:
    images = make_images(13)
    z_NVD = view_features(
        Pixels(), images, UNCHANGED, num_views=5, batch_size=8, seed=3, device=torch.device("cpu"), num_threads=1
    )
    assert z_NVD.shape == (12, 6, 12), "four batches of three images, three passes of two global views"
    expected = torch.from_numpy(images.pixels[:12, :2, :2] / 255).permute(0, 3, 1, 2).flatten(1).float()
    torch.testing.assert_close(z_NVD, expected[:, None].expand(12, 6, 12), atol=0.01, rtol=0)


def test_views_of_different_passes_differ() -> None:
    cropped = ViewsConfig.model_validate({"groups": [{"count": 2, "size": 16, "area": [0.2, 0.5]}]})
    z_NVD = view_features(
        Pixels(), make_images(6), cropped, num_views=4, batch_size=64, seed=3, device=torch.device("cpu"), num_threads=1
    )
    for first in range(4):
        for second in range(first):
            assert (z_NVD[:, first] - z_NVD[:, second]).abs().max() > 0.01


def test_only_global_views_are_taken() -> None:
    assert [group.size for group in global_views(UNCHANGED).groups] == [16]


def test_images_are_those_that_probes_are_judged_on(dataset: Dataset) -> None:
    evaluation = make_recipe({"name": "simclr"}).evaluation
    plain = split_images(dataset, evaluation, 0)
    assert (plain.judged, plain.judged_split) == (dataset.test, "test")
    held_out = split_images(dataset, evaluation.model_copy(update={"report_on": "held_out"}), 0)
    assert (len(held_out.judged), held_out.judged_split) == (4, "held_out")
    few = at_most(dataset.test, 7, 5)
    assert len(few) == 7
    assert all(any((pixels == other).all() for other in dataset.test.pixels) for pixels in few.pixels)


@pytest.mark.parametrize("most", [None, 24])
def test_diagnostics_probes_and_suites_judge_the_same_images(dataset: Dataset, most: int | None) -> None:
    """Features that are the images' own numbers, parted as probes part them, against the images that are named."""
    evaluation = make_recipe({"name": "simclr"}).evaluation
    evaluation = evaluation.model_copy(update={"report_on": "held_out", "max_train_images": most})
    images = split_images(dataset, evaluation, 3)
    pixels = torch.from_numpy(images.train.pixels).flatten(1).float()
    features = Features(x_ND=pixels, labels_N=torch.from_numpy(images.train.labels))
    parts = split_features(features, None, held_out_fraction=evaluation.held_out_fraction, seed=3)
    assert len(images.train) == (most or len(dataset.train))
    for part, named in ((parts.judged, images.judged), (parts.train.joined(parts.held_out), images.fitted)):
        found = {row.numpy().tobytes() for row in part.x_ND}
        assert found == {row.tobytes() for row in named.pixels.reshape(len(named), -1).astype(np.float32)}


def test_a_perfect_representation_is_at_every_optimum() -> None:
    """Five images, each one class, as a simplex ETF in four dimensions, whatever the view."""
    corners = torch.eye(5, dtype=torch.float64) - 0.2
    x_ND = corners @ torch.linalg.svd(corners).Vh[:4].T
    found = Diagnosis(split="test", num_images=5, num_views=3, dim=4)
    measure_representation(found, x_ND, torch.arange(5))
    measure_views(found, x_ND[:, None].expand(5, 3, 4))
    assert found.optimum["etf_cosine"] == found.optimum["image_etf_cosine"] == -0.25
    assert found.optimum["effective_rank"] == found.optimum["lidar"] == 4
    for name, optimum in found.optimum.items():
        assert found.measures[name] == pytest.approx(optimum, abs=1e-6), name
    assert found.spectra["representation"] == pytest.approx([0.25] * 4, abs=1e-6)


def test_images_of_an_etf_are_taken_from_all_over_the_split() -> None:
    """Listed class by class, eight equal images each: five neighbours would be one point."""
    corners = torch.eye(5, dtype=torch.float64) - 0.2
    x_ND = (corners @ torch.linalg.svd(corners).Vh[:4].T).repeat_interleave(8, 0)
    found = Diagnosis(split="test", num_images=40, num_views=2, dim=4)
    measure_views(found, x_ND[:, None].expand(40, 2, 4))
    assert found.measures["image_etf_cosine"] == pytest.approx(-0.25)
    assert found.measures["image_etf_distance"] == pytest.approx(0, abs=1e-6)


def test_a_collapsed_representation_is_said_and_stays_valid_json(caplog: pytest.LogCaptureFixture) -> None:
    found = Diagnosis(split="test", num_images=6, num_views=2, dim=4)
    measure_representation(found, torch.full((6, 4), 0.5), torch.arange(6) % 2)
    measure_views(found, torch.full((6, 2, 4), 0.5))
    assert json.loads(json.dumps(as_json(found), allow_nan=False))["measures"] == {"feature_std": 0.0}
    assert "the same features" in caplog.text
    assert what_it_says("feature_std", found) == "all images look the same to it: total collapse"


def test_a_measure_without_a_value_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    found = Diagnosis(split="test", num_images=20, num_views=2, dim=4)
    one_direction = torch.randn(20, 1) @ torch.ones(1, 4)
    measure_representation(found, one_direction, torch.arange(20) % 2)
    assert "alpha_req" not in found.measures
    assert found.measures["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert "no alpha_req: the features vary in one direction only" in caplog.text


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "swav", "num_prototypes": 12, "hidden_dim": 16, "queue_length": 16, "queue_start_epochs": 0},
        {"name": "dino", "num_prototypes": 24, "hidden_dim": 16},
        {"name": "dissl", "num_classes": 24, "hidden_dim": 32, "bottleneck_dim": 16},
    ],
    ids=lambda objective: objective["name"],
)
def test_a_trained_objective_is_measured_as_it_was_saved(
    objective: dict, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, ranks = make_recipe(objective), start_ranks()
    checkpoint = pretrain(recipe, dataset, ranks, folder=tmp_path, seed=2)
    learner, own_recipe = load_learner(checkpoint, dataset, ranks)
    assert own_recipe == recipe
    weights = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    found = diagnose_learner(learner, recipe, dataset, ranks, seed=2)
    assert all(weight.equal(weights[name]) for name, weight in learner.named_parameters())
    again = diagnose_learner(load_learner(checkpoint, dataset, ranks)[0], recipe, dataset, ranks, seed=2)
    assert as_json(again) == as_json(found)
    classes = objective.get("num_classes") or objective["num_prototypes"]
    assert found.optimum["marginal_entropy"] == pytest.approx(math.log(classes))
    assert 0 < found.measures["marginal_entropy"] <= math.log(classes) + 1e-6
    assert 0 < found.measures["used_classes_share"] <= 1
    assert (found.num_images, found.num_views, found.dim) == (30, 4, 16)
    matrices = {name for name, weight in learner.objective.named_parameters() if weight.ndim == 2}
    assert matrices < found.spectra.keys()
    assert sum(name.endswith(" output") for name in found.spectra) == (2 if objective["name"] == "dissl" else 1)
    for name, spectrum in found.spectra.items():
        assert sum(spectrum) == pytest.approx(1, abs=1e-4), name
        assert spectrum == sorted(spectrum, reverse=True), name
    expected = torch.linalg.svdvals(dict(learner.objective.named_parameters())[min(matrices)].detach().double())
    assert found.spectra[min(matrices)] == pytest.approx((expected / expected.sum()).tolist(), abs=1e-4)
    assert all(what_it_says(name, found) for name in found.measures)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [warning for warning in warnings if warning.startswith("diagnostics:")]


def test_recorded_outputs_are_what_the_heads_gave_before_a_loss_overwrote_it() -> None:
    objective = nn.Module()
    objective.head = LinearHead(3, 5)
    x_VBD = torch.randn(2, 4, 3)
    with recorded_outputs(objective) as outputs:
        given = objective.head(x_VBD)
        expected = given.detach().clone().flatten(0, 1)
        given.detach().zero_()
    assert set(outputs) == {"head"}
    torch.testing.assert_close(outputs["head"], expected)
    objective.head(2 * x_VBD)
    torch.testing.assert_close(outputs["head"], expected)


def test_an_objective_of_single_training_images_is_not_run_on_others(dataset: Dataset, tmp_path: Path) -> None:
    recipe, ranks = make_recipe({"name": "diet"}), start_ranks()
    checkpoint = pretrain(recipe, dataset, ranks, folder=tmp_path, seed=0)
    learner, _ = load_learner(checkpoint, dataset, ranks)
    found = diagnose_learner(learner, recipe, dataset, ranks, seed=0)
    assert "held_out_loss" not in found.measures
    assert len(found.spectra) > 1, "the classes' weights"


def test_images_without_a_class_have_no_measures_of_classes() -> None:
    found = Diagnosis(split="test", num_images=20, num_views=2, dim=4)
    measure_representation(found, torch.randn(20, 4), torch.full((20,), -1))
    assert "effective_rank" in found.measures
    assert not [name for name in found.measures if "etf" in name or "variability" in name]


def test_the_same_encoder_alone_has_the_same_measures(dataset: Dataset, tmp_path: Path) -> None:
    recipe, ranks = make_recipe({"name": "simclr", "hidden_dim": 16}), start_ranks()
    checkpoint = pretrain(recipe, dataset, ranks, folder=tmp_path, seed=0)
    learner, _ = load_learner(checkpoint, dataset, ranks)
    with_objective = diagnose_learner(learner, recipe, dataset, ranks, seed=0)
    alone = diagnose(learner.encoder, recipe, dataset, seed=0, device=ranks.device)
    assert alone.measures == {name: with_objective.measures[name] for name in alone.measures}
    assert with_objective.measures.keys() - alone.measures.keys() == {"held_out_loss"}
    assert set(alone.spectra) == {"representation"}


def test_measuring_nothing_is_refused(dataset: Dataset) -> None:
    recipe = make_recipe({"name": "simclr"})
    off = recipe.model_copy(update={"diagnostics": recipe.diagnostics.model_copy(update={"after_images": None})})
    with pytest.raises(ValueError, match=r"diagnostics\.after_images is null"):
        diagnose(Pixels(), off, dataset, seed=0, device=torch.device("cpu"))
