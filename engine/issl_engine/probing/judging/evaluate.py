"""All probes of a recipe on one frozen encoder: features once, choice on held-out images, report on test."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.features.crops import EncodedCrops
from issl_engine.probing.features.features import CPU
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.probing.judging.leak_check import check_blind, check_no_shared_images
from issl_engine.probing.judging.shared_images import Chosen
from issl_engine.probing.judging.splits import Splits, split_features, split_images
from issl_engine.probing.probes.base import ProbeConfig, ProbeResult
from issl_engine.ranks import Ranks
from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.views.preprocessing import Preprocessing


def evaluate(
    *, encoder: nn.Module | None, dataset: Dataset, evaluation: EvaluationConfig,
    probes: Sequence[ProbeConfig], preprocessing: Preprocessing, seed: int, device: torch.device, num_threads: int,
    ranks: Ranks | None = None,
) -> list[ProbeResult]:  # fmt: skip
    """One result a probe; ``encoder`` None probes the raw pixels. ``ranks``: this first one and those that follow it
    (``lead_or_follow``), to make crops for the probes that take them.

    With ``evaluation.report_on`` held_out the test split is not read: part of the training split plays it,
    and hyper-parameters are chosen on a part of the rest. Raises Mistake when a class has too few images
    to split, for features that are NaN or infinite, for an image that cannot be decoded, for a test image that is in
    the training split, and for a probe of targets that the source does not give.
    """

    maker = FeatureMaker(
        encoder=encoder, preprocessing=preprocessing, device=device, batch_size=evaluation.batch_size,
        num_threads=num_threads,
    )  # fmt: skip
    splits = make_splits(maker, dataset, evaluation, seed, ranks)
    if evaluation.check_leaks:
        for probe in probes:
            check_blind(probe, splits, num_classes=dataset.num_classes, seed=seed, device=device)
    results = run_probes(probes, splits, num_classes=dataset.num_classes, seed=seed, device=device)
    return [replace(result, preprocessing=maker.describe()) for result in results]


def make_splits(
    maker: FeatureMaker, dataset: Dataset, evaluation: EvaluationConfig, seed: int, ranks: Ranks | None = None
) -> Splits:
    """Features of what probes are fitted on, chosen by and judged on; ``ranks`` make crops together.

    Raises Mistake as ``evaluate`` does for images and their classes.
    """
    images = split_images(dataset, evaluation, seed)
    train = maker.features(images.train)
    test = maker.features(images.judged) if images.judged_split == "test" else None
    splits = split_features(train, test, held_out_fraction=evaluation.held_out_fraction, seed=seed)
    check_content(splits, images.train, dataset, allow_shared_images=evaluation.allow_shared_images)
    fitted_N = torch.zeros(len(images.train), dtype=torch.bool)
    fitted_N[splits.train.stored_rows] = fitted_N[splits.held_out.stored_rows] = True
    crops = EncodedCrops(maker=maker, images=images.train, fitted_N=fitted_N, ranks=ranks)
    return replace(splits, crops=crops)


def run_probes(
    probes: Sequence[ProbeConfig], splits: Splits, *, num_classes: int, seed: int,
    device: torch.device = CPU,
) -> list[ProbeResult]:  # fmt: skip
    """Every probe on the same splits, in order; one may give several results. Fitted on ``device``.

    Raises Mistake for a probe of targets that the images do not have.
    """
    results = []
    for probe in probes:
        found = probe.evaluate(
            train=splits.train, held_out=splits.held_out, test=splits.judged, num_classes=num_classes, seed=seed,
            device=device, crops=splits.crops,
        )  # fmt: skip
        results += [replace(result, split=splits.judged_split, protocol=probe.protocol) for result in found]
    return results


def check_content(splits: Splits, train_images: ImageSet, dataset: Dataset, *, allow_shared_images: bool) -> None:
    """No test image may be in the training split under another name; inside that split it is reported, not refused."""
    if splits.judged_split == "test":
        whole, judged = Chosen(images=dataset.train), Chosen(images=dataset.test)
        check_no_shared_images(whole, judged, allowed=allow_shared_images)
        return
    fitted_places = splits.train.joined(splits.held_out).in_stored_order().stored_rows.tolist()
    check_no_shared_images(
        Chosen(images=train_images, places=fitted_places),
        Chosen(images=train_images, places=splits.judged.stored_rows.tolist()),
        allowed=True,
    )
