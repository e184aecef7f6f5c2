"""Planted leaks are caught, and every probe there is passes without one."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

import issl_engine.probing.probes as probing
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.evaluate import run_probes
from issl_engine.probing.judging.leak_check import LeakError, check_blind, check_no_shared_images, with_other_judged
from issl_engine.probing.judging.shared_images import Chosen, shared_images
from issl_engine.probing.judging.splits import Splits, split_features
from issl_engine.probing.probes.base import FitData, ProbeConfig
from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig, FittedFewLabels
from issl_engine.probing.probes.grid import FittedPoint, Point
from issl_engine.probing.probes.nearest_mean import ClassMeans, NearestMeanProbeConfig
from issl_engine.sources.base import ImageSet, TargetTable
from issl_engine.variants import variants

from ..conftest import NUM_CLASSES, RowsAsCrops, blobs

QUICK: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 1},
    "linear_augmented": {"epochs": 1},
    "mlp": {"hidden_widths": (8,), "epochs": 1},
    "few_labels": {"probe": {"name": "nearest_mean"}, "draws": 2, "shots": (2,)},
}


def with_targets(features: Features) -> Features:
    values_NT = features.x_ND[:, :2].numpy()
    values = TargetTable(names=("a", "b"), values_NT=values_NT)
    return features.with_targets(values, TargetTable(names=("c", "d"), values_NT=(values_NT > 3).astype(np.float32)))


def splits(*, with_test: bool = True) -> Splits:
    """With a test split of its own, or with a part of the training split in its place: then all lie in one store."""
    train, test = with_targets(blobs(120, seed=0)), with_targets(blobs(60, seed=1))
    found = split_features(train, test if with_test else None, held_out_fraction=0.2, seed=0)
    return replace(found, crops=RowsAsCrops())


class PeekingAtTheStore(NearestMeanProbeConfig):
    """Centres features by the mean of all that lies in memory, whoever's they are."""

    name: Literal["peeking"] = "peeking"  # type: ignore[assignment]

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> ClassMeans:
        means = super().fit_points(features, points, data)
        centre_D = torch.cat(features._stores).mean(0)
        return ClassMeans(means.mean_SCD - centre_D, means.present_C, means.distances)


class RememberingWhatJudged(NearestMeanProbeConfig):
    """Takes the distance that was better on the images that judged it last."""

    name: Literal["remembering"] = "remembering"  # type: ignore[assignment]
    last: ClassVar[list[Features]] = []

    def fit(self, data: FitData) -> FittedPoint:
        probe = self

        class Remembering(FittedPoint):
            def judge(self, judged: Features):
                probe.last[:] = [judged]
                return super().judge(judged)

        honest = super().fit(data)
        if self.last:
            whole, points = data.train.joined(data.held_out), self.points()
            scores = self.scores(whole, self.last[0], points, data)
            honest = self.fit_point(whole, points[int(np.argmax(scores))], data, held_out_value=0, how="")
        return Remembering(**vars(honest))


def found() -> dict[str, type[ProbeConfig]]:
    return variants(probing, ProbeConfig)


@pytest.mark.parametrize("with_test", [True, False])
@pytest.mark.parametrize("name", sorted(found()))
def test_no_probe_depends_on_what_judges_it(name: str, with_test: bool) -> None:
    check_blind(found()[name](**QUICK.get(name, {})), splits(with_test=with_test), num_classes=NUM_CLASSES, seed=0)


def test_no_probe_replaces_the_order_of_fitting_and_judging() -> None:
    assert len(found()) > 8
    assert all(config.evaluate is ProbeConfig.evaluate for config in found().values())


def test_a_probe_that_peeks_at_rows_beside_its_own_is_caught() -> None:
    with pytest.raises(LeakError, match=r"peeking depends on the images that judge it.* means, .*changed"):
        check_blind(PeekingAtTheStore(), splits(with_test=False), num_classes=NUM_CLASSES, seed=0)


def test_a_probe_that_remembers_what_judged_it_is_caught() -> None:
    RememberingWhatJudged.last.clear()
    parts = splits()
    # Labels by which another distance is the better one than on the held-out images.
    chosen = NearestMeanProbeConfig().fit(FitData(train=parts.train, held_out=parts.held_out, num_classes=5, seed=0))
    other = next(point for point in NearestMeanProbeConfig().points() if point != chosen.chosen)
    data = FitData(train=parts.train, held_out=parts.held_out, num_classes=NUM_CLASSES, seed=0)
    whole = parts.train.joined(parts.held_out)
    (predicted_N,) = NearestMeanProbeConfig().fit_points(whole, [other], data).predict(parts.judged.x_ND)
    judged = parts.judged.with_targets(None, None, labels_N=predicted_N)
    leaky = Splits(train=parts.train, held_out=parts.held_out, judged=judged, judged_split="test")
    with pytest.raises(LeakError, match="remembering depends on the images that judge it"):
        check_blind(RememberingWhatJudged(), leaky, num_classes=NUM_CLASSES, seed=0)
    check_blind(NearestMeanProbeConfig(), leaky, num_classes=NUM_CLASSES, seed=0)


@pytest.mark.parametrize("with_test", [True, False])
def test_the_trial_changes_every_judged_image_and_no_other(with_test: bool) -> None:
    before = splits(with_test=with_test)
    after = with_other_judged(before)
    for part in ("train", "held_out"):
        assert torch.equal(getattr(after, part).x_ND, getattr(before, part).x_ND)
        assert torch.equal(getattr(after, part).labels_N, getattr(before, part).labels_N)
    assert (after.judged.x_ND != before.judged.x_ND).any(1).all()
    assert (after.judged.labels_N != before.judged.labels_N).any()
    assert after.judged.values is not None
    assert before.judged.values is not None
    assert (after.judged.values.values_NT != before.judged.values.values_NT).any(1).all()
    first, second = (torch.cat(s.train._stores) for s in (before, after))
    assert torch.equal(first, second) is with_test  # in one store with the judged images, these rows are others


def test_the_judged_images_are_not_among_what_fit_is_given() -> None:
    seen: list[FitData] = []

    class Watching(NearestMeanProbeConfig):
        name: Literal["watching"] = "watching"  # type: ignore[assignment]

        def fit(self, data: FitData) -> FittedPoint:
            seen.append(data)
            return super().fit(data)

    parts = splits(with_test=False)
    run_probes([Watching()], parts, num_classes=NUM_CLASSES, seed=0)
    rows = set(parts.judged.stored_rows.tolist())
    given = [value for value in vars(seen[0]).values() if isinstance(value, Features)]
    assert len(given) == 2
    assert len(rows) == 25
    assert not rows & {row for part in given for row in part.stored_rows.tolist()}


def pixels(count: int, seed: int) -> ImageSet:
    random = np.random.default_rng(seed)
    return ImageSet(
        labels=np.zeros(count, dtype=np.int64),
        sizes_HW=np.full((count, 2), 4, dtype=np.int32),
        pixels=random.integers(0, 255, (count, 4, 4, 3), dtype=np.uint8),
    )


def test_pixels_in_both_splits_are_named() -> None:
    fitted, judged = pixels(20, 0), pixels(10, 1)
    assert fitted.pixels is not None
    assert judged.pixels is not None
    check_no_shared_images(Chosen(images=fitted), Chosen(images=judged), allowed=False)
    judged.pixels[7] = fitted.pixels[13]
    judged.pixels[2] = fitted.pixels[4]
    judged.pixels[3] = fitted.pixels[4]
    judged.pixels[3, 0, 0, 0] ^= 1  # nearly the same
    with pytest.raises(LeakError, match=r"2 of 10 judged images.*image 2 is image 4; image 7 is image 13"):
        check_no_shared_images(Chosen(images=fitted), Chosen(images=judged), allowed=False)


def test_images_of_one_split_are_compared_by_their_places() -> None:
    whole = pixels(6, 0)
    assert whole.pixels is not None
    whole.pixels[5] = whole.pixels[1]
    whole.pixels[3] = whole.pixels[0]
    judged = Chosen(images=whole, places=[3, 5])
    assert shared_images(Chosen(images=whole, places=[0, 1, 2]), judged) == [(3, 0), (5, 1)]
    assert shared_images(Chosen(images=whole, places=[1, 2, 4]), judged) == [(5, 1)]


def test_files_in_both_splits_are_named_whatever_they_are_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = [b"a" * 2000, b"b" * 2000, b"c" * 3000, b"a" * 1999 + b"z", b"c" * 3000]
    paths = [tmp_path / f"{place}.jpg" for place in range(5)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)

    def files(*places: int) -> ImageSet:
        return ImageSet(
            labels=np.zeros(len(places), dtype=np.int64), sizes_HW=np.ones((len(places), 2), dtype=np.int32),
            paths=tuple(str(paths[place]) for place in places),
        )  # fmt: skip

    check_no_shared_images(Chosen(images=files(0, 1, 2)), Chosen(images=files(3)), allowed=False)
    with pytest.raises(LeakError, match=r"1 of 2 judged images .*4\.jpg is .*2\.jpg\)"):
        check_no_shared_images(Chosen(images=files(0, 1, 2)), Chosen(images=files(3, 4)), allowed=False)
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        check_no_shared_images(Chosen(images=files(0, 1, 2)), Chosen(images=files(3, 4)), allowed=True)
    assert "1 of 2 judged images are in the training split too" in caplog.text


def test_draws_of_few_labels_are_compared_one_by_one() -> None:
    probe = FewLabelsProbeConfig(probe={"name": "nearest_mean"}, fractions=(0.1,), shots=(1,), draws=2)  # type: ignore[arg-type]
    parts = splits()
    fitted = probe.fit(FitData(train=parts.train, held_out=parts.held_out, num_classes=NUM_CLASSES, seed=0))
    assert isinstance(fitted, FittedFewLabels)
    assert {"10 % of labels, nearest_mean, draw 0, means", "1-shot, nearest_mean, draw 1, distance"} <= set(
        fitted.state()
    )
