"""What is timed: the loader stage by stage, the peers, and the loader with one setting changed."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from issl_engine.loading import ReadImages, Stage, TrainingViews, copy_batch
from issl_engine.loading.batch_buffers import BatchBuffers
from issl_engine.sources.base import ImageSet
from issl_engine.sources.packing.packed_sample import LeftOut, make_sample
from issl_engine.sources.packing.reencode import Reencoding, Smaller
from issl_engine.views.config import Augmentation
from issl_profiling.data.cases import DataCase
from issl_profiling.data.torchvision_loader import Backend, TorchvisionViews

LOADER = "loader"
"""The whole of ours."""
SAMPLE = 128
"""Images from which the size of all is estimated, and that are encoded again."""
PACKED_QUALITY = 90
HALF_OF_THE_AREA = 0.5
WORTH_PACKING = 1.2
"""Images' shorter side over the one they would be packed at."""
CACHED_BATCHES = 4
"""Images that fill the cache before it is timed."""


class Loader(Protocol):
    """Endless batches."""

    def __next__(self) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something to time. ``kind``: a stage of our loader, a part of it alone, a peer, or our loader with one setting
    changed."""

    kind: str
    name: str
    start: Callable[[int], Loader]
    """Takes a seed: with another one other images come first, which may not be in the system's memory yet."""
    warmup_batches: int
    """Not timed: those made ahead while nothing was asked for, and one more."""
    advice: str = ""
    """Of a changed setting: what the user would do."""


def stages(case: DataCase) -> list[Candidate]:
    """Our loader up to a stage, each with the ones before it; the last of them is all of it. Then delivery alone."""

    def stage(name: str, start: Callable[[int], Loader]) -> Candidate:
        return Candidate(kind="stage", name=name, start=start, warmup_batches=case.prefetch_batches + 1)

    plain = case.with_views(Augmentation(flip=0, colour_jitter=None, greyscale=0))
    found = [stage("read", lambda seed: _reading(case, "read", seed))]
    if case.images.encoded:
        found.append(stage("+ decode", lambda seed: _reading(case, "decode", seed)))
    delivery = Candidate(kind="alone", name="delivery alone", start=lambda seed: _Delivery(case), warmup_batches=2)
    return [
        *found,
        stage("+ crops", lambda seed: training_views(plain, seed)),
        stage(LOADER, lambda seed: training_views(case, seed)),
        delivery,
    ]


def peers(case: DataCase) -> list[Candidate]:
    """torchvision's transforms on tensors and on PIL images, with as many workers as we have threads."""

    def peer(backend: Backend, text: str) -> Candidate:
        ahead = case.prefetch_batches * case.decode_threads
        return Candidate(
            kind="peer", name=f"torchvision, {text}", start=lambda seed: TorchvisionViews(case, backend),
            warmup_batches=ahead + 1,
        )  # fmt: skip

    return [peer("tensor", "tensors"), peer("PIL", "PIL images")]


def changes(case: DataCase, folder: Path) -> Iterator[Candidate]:
    """Our loader with one setting changed that may make it faster. ``folder`` takes images that are made for it."""

    def change(name: str, advice: str, changed: DataCase, warmup_batches: int = 0) -> Candidate:
        return Candidate(
            kind="change", name=name, advice=advice, start=lambda seed: training_views(changed, seed),
            warmup_batches=warmup_batches + changed.prefetch_batches + 1,
        )  # fmt: skip

    cores = len(os.sched_getaffinity(0))
    for threads in sorted({cores, min(2 * case.decode_threads, 2 * cores)} - {case.decode_threads}):
        yield change(f"{threads} threads", f"data.decode_threads={threads}", replace(case, decode_threads=threads))
    more = 2 * case.prefetch_batches
    yield change(f"{more} batches ahead", f"data.prefetch_batches={more}", replace(case, prefetch_batches=more))
    if not case.images.encoded:
        return
    all_bytes = _encoded_bytes(case.images)
    if not case.cache_bytes:
        some = case.images.subset(np.arange(min(len(case.images), CACHED_BATCHES * case.batch_size)))
        advice = f"data.cache_gib={all_bytes / 2**30:.2g}"
        cached = replace(case, images=some, cache_bytes=2 * int(all_bytes))
        yield change("encoded images in memory", advice, cached, warmup_batches=CACHED_BATCHES)
    side = packed_side(case)
    if side is not None:
        smaller = replace(case, images=packed_sample(case.images, side, folder))
        yield change(f"packed at {side} px", f"issl-engine data pack SOURCE --max-side {side}", smaller)


def packed_side(case: DataCase) -> int | None:
    """Shorter side at which crops of half an image are not enlarged, in steps of 32 px; None where the images are
    hardly larger."""
    side = math.ceil(case.views.largest_size / HALF_OF_THE_AREA**0.5 / 32) * 32
    return side if median(case.images.sizes_HW.min(axis=1).tolist()) > WORTH_PACKING * side else None


def packed_sample(images: ImageSet, side: int, folder: Path) -> ImageSet:
    """Some of the images, encoded again with the shorter side at ``side``, repeated until there are as many."""
    how = Reencoding(smaller=Smaller(shorter_side_px=side, quality=PACKED_QUALITY))
    paths, sizes = [], []
    for index in _sample(images):
        sample = make_sample("train", images, int(index), how)
        if isinstance(sample, LeftOut):
            continue
        paths.append(str(folder / sample.key))
        Path(paths[-1]).write_bytes(sample.content)
        sizes.append(sample.size_HW)
    found = ImageSet(labels=np.zeros(len(paths), np.int64), sizes_HW=np.array(sizes, np.int32), paths=tuple(paths))
    return found.subset(np.arange(len(images)) % len(paths))


def training_views(case: DataCase, seed: int = 0) -> TrainingViews:
    """The whole loader of one rank."""
    return TrainingViews(
        case.images, case.views, batch_size=case.batch_size, rank=0, world_size=1, seed=seed, device=case.device,
        num_threads=case.decode_threads, prefetch_batches=case.prefetch_batches, dtype=case.dtype,
        channels_last=case.channels_last, cache_bytes=case.cache_bytes,
    )  # fmt: skip


class _Delivery:
    """Hands over the crops of one batch again and again: what copying them out of DALI's memory takes."""

    def __init__(self, case: DataCase) -> None:
        views = training_views(case)
        made = next(views)
        views.close()
        self._views = [view.contiguous().float() for crops in made.crops for view in crops]
        self._case, self._buffers = case, BatchBuffers()

    def __next__(self) -> list[Tensor]:
        delivered = []
        for view in self._views:
            target = self._buffers.take(tuple(view.shape), self._case.dtype, view.device)
            copy_batch(view, target)
            delivered.append(target)
        return delivered

    def close(self) -> None:
        self._views.clear()


def _reading(case: DataCase, stage: Stage, seed: int) -> ReadImages:
    return ReadImages(
        case.images, stage, batch_size=case.batch_size, seed=seed, device=case.device,
        num_threads=case.decode_threads, prefetch_batches=case.prefetch_batches, cache_bytes=case.cache_bytes,
    )  # fmt: skip


def _sample(images: ImageSet) -> list[int]:
    places: list[int] = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64)).tolist()
    return places


def _encoded_bytes(images: ImageSet) -> float:
    """Of all images, from a sample."""
    return len(images) * fmean(len(images.stored_bytes(index)) for index in _sample(images))
