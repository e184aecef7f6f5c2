"""The splits of probing, and how a part of the training split is held out, balanced over classes.

Letters: N images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import TrainingCrops
from issl_engine.sources.base import Dataset, ImageSet


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a probe is fitted on, what chooses its hyper-parameters, and what judges it; no image is in two."""

    train: Features
    held_out: Features
    judged: Features
    judged_split: str
    """test or held_out."""
    crops: TrainingCrops | None = None
    """Of the images of ``train`` and ``held_out``, for the probes that are fitted on them."""


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """Which images probes, suites and diagnostics use, before any features are made."""

    train: ImageSet
    """Of the training split, as many as ``evaluation.max_train_images`` allows."""
    fitted: ImageSet
    """Those of ``train`` that a probe may be fitted on or choose by."""
    judged: ImageSet
    """The test split, or the part of ``train`` that plays it."""
    judged_split: str
    """test or held_out."""


def split_images(dataset: Dataset, evaluation: EvaluationConfig, seed: int) -> ImageSplits:
    """The one rule of which images are judged. With ``report_on`` held_out the test split is left alone.

    Raises Mistake where a class has too few images to hold one out.
    """
    train = at_most(dataset.train, evaluation.max_train_images, seed)
    if evaluation.report_on == "test":
        return ImageSplits(train=train, fitted=train, judged=dataset.test, judged_split="test")
    rest, judged = hold_out(train.labels, evaluation.held_out_fraction, seed)
    return ImageSplits(
        train=train, fitted=train.subset(rest.numpy()), judged=train.subset(judged.numpy()), judged_split="held_out"
    )


def at_most(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """``count`` of the images, drawn with the seed, in their order; all where there are no more, or for None."""
    if count is None or count >= len(images):
        return images
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return images.subset(np.sort(chosen))


def split_features(train: Features, test: Features | None, *, held_out_fraction: float, seed: int) -> Splits:
    """The features of ``ImageSplits.train`` and of the test split, parted as the images are.

    Holds out a class-balanced part of ``train``; with ``test`` None the part that ``split_images`` judges on plays the
    test split. Raises Mistake when a class has too few images to split.
    """
    kept, chosen = hold_out(train.labels_N, held_out_fraction, seed)
    if test is not None:
        return Splits(train=train.subset(kept), held_out=train.subset(chosen), judged=test, judged_split="test")
    rest, judged = train.subset(kept), train.subset(chosen)
    kept, chosen = hold_out(rest.labels_N, held_out_fraction, seed + 1)
    return Splits(train=rest.subset(kept), held_out=rest.subset(chosen), judged=judged, judged_split="held_out")


def hold_out(labels: Tensor | NDArray[np.int64], fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """(kept, held out): disjoint int64 indices in ascending order that cover all images (int64 ``labels`` [N]).

    Each class gives ``fraction`` of its images (rounded), at least one, and keeps at least one. Raises
    Mistake for a class with a single image, and for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise Mistake(f"the held-out fraction must lie between 0 and 1, not {fraction}; 0.1 is usual")
    labels_N = torch.as_tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    held_out = []
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero().flatten()
        if len(members) < 2:
            raise Mistake(
                f"class {label} has a single image left to fit a probe, so none can be held out to choose "
                "hyper-parameters; add images, raise evaluation.max_train_images, or leave the class out"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[torch.randperm(len(members), generator=generator)[:count]])
    if not held_out:
        raise Mistake("there is no training image to fit a probe; check the source's training split")
    chosen = torch.cat(held_out).sort().values
    kept = torch.ones(len(labels_N), dtype=torch.bool)
    kept[chosen] = False
    return kept.nonzero().flatten(), chosen
