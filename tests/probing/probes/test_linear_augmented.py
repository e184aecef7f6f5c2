"""The head on random crops: what it learns, that choice and judgement stay apart, and that ranks change nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.features.crops import EncodedCrops, lead_or_follow
from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.probing.judging.evaluate import evaluate, make_splits
from issl_engine.probing.judging.splits import Splits
from issl_engine.probing.probes.base import Crops, FitData
from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig
from issl_engine.probing.probes.linear_augmented import LinearAugmentedProbeConfig
from issl_engine.ranks import Ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.run.recipe import run_recipe
from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.views.preprocessing import Preprocessing

from ..conftest import NUM_CLASSES, blobs, fit_data

PREPROCESSING = Preprocessing(resize=16, crop=16, mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")
CROPS = Crops(area=(0.5, 1.0), ratio=(0.75, 1.333), flip=0.5, batch_size=8, epochs=2)
CLASSES = 3


def squares(count: int, seed: int) -> ImageSet:
    """The class is the brightness of a square; its place and the rest are chance."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 60, (count, 20, 20, 3))
    for image, label in zip(pixels, labels, strict=True):
        top, left = rng.integers(4, 10, 2)
        image[top : top + 6, left : left + 6] += 60 + 60 * label
    return ImageSet(labels=labels, sizes_HW=np.full((count, 2), 20, np.int32), pixels=pixels.clip(0, 255).astype("u1"))


def dataset() -> Dataset:
    return Dataset(name="squares", classes=("a", "b", "c"), train=squares(60, 0), test=squares(30, 1))


def encoder() -> Encoder:
    torch.manual_seed(0)
    return SmallResNetConfig(width=8, stem_stride=1, dim=12).build(image_size=16)


def maker(network: nn.Module | None) -> FeatureMaker:
    return FeatureMaker(encoder=network, preprocessing=PREPROCESSING, device=CPU, batch_size=16, num_threads=1)


def evaluation(**keys) -> EvaluationConfig:
    return EvaluationConfig(resize=16, crop=16, held_out_fraction=0.2, **keys)


def splits(ranks: Ranks | None = None, **keys) -> Splits:
    return make_splits(maker(encoder()), dataset(), evaluation(**keys), 0, ranks)


def probe(**keys) -> LinearAugmentedProbeConfig:
    return LinearAugmentedProbeConfig(**{"epochs": 3, "batch_size": 16, "area": (0.6, 1.0)} | keys)


def data_of(found: Splits) -> FitData:
    return FitData(train=found.train, held_out=found.held_out, num_classes=CLASSES, seed=0, crops=found.crops)


def all_batches(found: Splits, features: Features, seed: int = 0) -> tuple[Tensor, Tensor]:
    assert found.crops is not None
    rows, labels = zip(*found.crops.batches(features, CROPS, seed=seed), strict=True)
    return torch.cat(rows), torch.cat(labels)


def test_it_learns_what_a_crop_shows() -> None:
    one = probe(epochs=30, lrs=(3.0, 10.0), normalise="standardise")
    (result,) = evaluate(
        encoder=encoder(), dataset=dataset(), evaluation=evaluation(), probes=[one],
        preprocessing=PREPROCESSING, seed=0, device=CPU, num_threads=1,
    )  # fmt: skip
    assert result.value > 50
    assert result.num_train_images == 60
    assert result.held_out_value is not None
    assert set(result.chosen) == {"lr", "weight_decay"}
    assert "random crops of 0.6 to 1" in result.grid


@pytest.mark.parametrize("normalise", ["none", "scale", "standardise"])
def test_a_step_is_sgds_on_the_same_crops(normalise: str) -> None:
    found = splits()
    points = [{"lr": 0.3, "weight_decay": 0.01}, {"lr": 3.0, "weight_decay": 0.0}]
    one = probe(normalise=normalise, epochs=CROPS.epochs, batch_size=8, area=CROPS.area, ratio=CROPS.ratio)
    heads = one.fit_points(found.train, points, data_of(found))
    x_ND = found.train.x_ND.double()
    scale, offset = torch.ones(12), torch.zeros(12)
    if normalise == "scale":
        scale = scale / x_ND.square().mean().sqrt()
    if normalise == "standardise":
        deviation = (x_ND.var(0, unbiased=False) + 1e-5).sqrt()
        scale, offset = 1 / deviation, -x_ND.mean(0) / deviation
    rows, labels = all_batches(found, found.train)
    steps = len(rows) // 8
    for place, point in enumerate(points):
        head = nn.Linear(12, CLASSES).double()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": point["weight_decay"]}, {"params": [head.bias]}]
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
        for step, (x_BD, labels_B) in enumerate(zip(rows.double().split(8), labels.split(8), strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = point["lr"] * 8 / 256 * 0.5 * (1 + np.cos(np.pi * step / steps))
            optimizer.zero_grad()
            F.cross_entropy(head(x_BD * scale + offset), labels_B).backward()
            optimizer.step()
        torch.testing.assert_close(heads.weights_SCD[place].double(), head.weight.data, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(heads.bias_SC[place].double(), head.bias.data, rtol=1e-4, atol=1e-6)


def test_crops_follow_from_the_seed_and_differ_between_epochs() -> None:
    found = splits()
    rows, labels = all_batches(found, found.train)
    again, _ = all_batches(found, found.train)
    other, _ = all_batches(found, found.train, seed=1)
    assert rows.equal(again)
    assert not rows.equal(other)
    first, second = rows.chunk(2)
    assert not first.equal(second)
    counts = torch.bincount(labels, minlength=CLASSES)
    assert (counts > 0).all()


def test_the_encoder_is_in_evaluation_mode_and_stays_as_it_was() -> None:
    network = encoder().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = make_splits(maker(network), dataset(), evaluation(), 0)
    rows, _ = all_batches(found, found.train)
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert not rows.requires_grad


@pytest.mark.parametrize("report_on", ["test", "held_out"])
def test_images_that_judge_are_out_of_reach(report_on: str) -> None:
    found = splits(report_on=report_on)
    assert isinstance(found.crops, EncodedCrops)
    if report_on == "held_out":
        with pytest.raises(AssertionError, match="images that judge it"):
            all_batches(found, found.judged)
    both = found.train.joined(found.held_out)
    assert int(found.crops.fitted_N.sum()) == len(both)


def test_check_leaks_passes_and_held_out_is_reported() -> None:
    (result,) = evaluate(
        encoder=encoder(), dataset=dataset(), evaluation=evaluation(check_leaks=True, report_on="held_out"),
        probes=[probe(epochs=1)], preprocessing=PREPROCESSING, seed=0, device=CPU, num_threads=1,
    )  # fmt: skip
    assert result.split == "held_out"


def test_a_single_point_is_fitted_once_on_all_images() -> None:
    found = splits()
    fitted = probe(lrs=(0.1,), epochs=1).fit(data_of(found))
    assert (fitted.held_out_value, fitted.num_train_images) == (None, 60)
    assert "nothing to choose" in fitted.grid


def test_raw_pixels_and_few_labels() -> None:
    few = FewLabelsProbeConfig(probe=probe(epochs=1), fractions=(0.5,), shots=(), draws=2)
    assert few.takes_crops
    results = evaluate(
        encoder=None, dataset=dataset(), evaluation=evaluation(), probes=[few, probe(epochs=1)],
        preprocessing=PREPROCESSING, seed=0, device=CPU, num_threads=1,
    )  # fmt: skip
    assert [result.setting for result in results] == ["50 % of labels, linear_augmented", ""]
    assert results[0].num_train_images == 30


def test_features_alone_are_refused() -> None:
    with pytest.raises(Mistake, match="fitted on images, and there are only features here"):
        probe().fit_points(blobs(20, 0), [{"lr": 0.1, "weight_decay": 0.0}], fit_data(blobs(20, 0)))
    assert NUM_CLASSES


class Broken(nn.Module):
    """Features of dark images are not finite."""

    dim = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :12].log()


def test_features_that_are_not_finite_are_refused() -> None:
    found = splits()
    crops = EncodedCrops(maker=maker(Broken()), images=dataset().train, fitted_N=torch.ones(60, dtype=torch.bool))
    with pytest.raises(Mistake, match="NaN or infinite"):
        list(crops.batches(found.train, CROPS, seed=0))


def test_two_ranks_give_what_one_gives(run_ranks) -> None:
    found = splits()
    expected = probe().fit_points(found.train, probe().points(), data_of(found))
    on_first, on_second = run_ranks(fitted_together, world_size=2)
    assert on_second is None
    weights, bias = on_first
    torch.testing.assert_close(weights, expected.weights_SCD, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias, expected.bias_SC, rtol=1e-4, atol=1e-6)


def fitted_together(ranks: Ranks) -> tuple[Tensor, Tensor] | None:
    made = []

    def lead() -> None:
        found = splits(ranks)
        made.append(probe().fit_points(found.train, probe().points(), data_of(found)))
        assert probe(batch_size=15).fit_points(found.train, probe().points(), data_of(found))  # alone, as 15 is odd

    lead_or_follow(ranks, lambda: dataset().train, lead)
    return (made[0].weights_SCD, made[0].bias_SC) if made else None


def test_what_fails_on_one_rank_is_said_on_all(run_ranks) -> None:
    first, second = run_ranks(broken_together, world_size=2)
    assert first == second
    assert "NaN or infinite" in first


def broken_together(ranks: Ranks) -> str:
    def lead() -> None:
        found = splits()
        fitted_N = torch.ones(60, dtype=torch.bool)
        crops = EncodedCrops(maker=maker(BrokenOnOne()), images=dataset().train, fitted_N=fitted_N, ranks=ranks)
        list(crops.batches(found.train, CROPS, seed=0))

    try:
        lead_or_follow(ranks, lambda: dataset().train, lead)
    except Mistake as error:
        return str(error)
    return "nothing was said"


class BrokenOnOne(nn.Module):
    """Features are not finite on the second rank."""

    dim = 12

    def forward(self, images: Tensor) -> Tensor:
        wrong = torch.distributed.get_rank() == 1
        return images.flatten(1)[:, :12] / (0.0 if wrong else 1.0)


RECIPE = """\
name: tiny
source: {name: shapes, num_train: 40, num_test: 20, num_classes: 4, image_size: 16}
views: {groups: [{count: 2, size: 16}]}
encoder: {name: small_resnet, width: 4, dim: 8}
objective: {name: simclr}
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 1, global_batch_size: 8, threads: 1}
evaluation: {resize: 16, crop: 16}
probes: [{name: linear_augmented, epochs: 2, batch_size: 8}, {name: knn}]
"""


def test_a_run_of_two_ranks_probes_with_both(run_ranks, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    run_ranks(whole_run, str(tmp_path), world_size=2)
    records = json.loads((tmp_path / "run" / "simclr" / "seed0" / "probes.json").read_text())
    assert [record["probe"] for record in records] == ["linear_augmented", "knn"]
    assert len(list((tmp_path / "run" / "controls").rglob("probes.json"))) == 2


def whole_run(ranks: Ranks, folder: str) -> None:
    run_recipe(load_recipe(f"{folder}/tiny.yaml"), Path(folder) / "run", ranks=ranks)
