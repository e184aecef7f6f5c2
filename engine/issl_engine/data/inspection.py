"""What a source holds: counts, sizes, corrupt files, images twice, channel means."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from issl_engine.data.look_alikes import THUMBNAIL, look_alikes, thumbnail
from issl_engine.data.sources.base import Dataset, ImageSet
from issl_engine.data.sources.open_image import decode_image, open_image

UNDECODABLE = (OSError, SyntaxError, ValueError)
"""What Pillow raises for a broken image."""
SAMPLE = 2000
"""Images that channel means are taken over, spread evenly over the split."""


@dataclass(frozen=True, kw_only=True)
class SplitInspection:
    """One split. Sizes are (height, width) in pixels; means and standard deviations of red, green and blue are of
    values 0 to 1, over ``sampled`` images, each image counted alike."""

    images: int
    images_of_classes: dict[str, int]
    smallest_HW: tuple[int, int]
    median_HW: tuple[int, int]
    largest_HW: tuple[int, int]
    channel_mean: tuple[float, float, float]
    channel_std: tuple[float, float, float]
    sampled: int


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Images that are there more than once: groups of them, each image as (split, how messages name it)."""

    same_bytes: list[list[tuple[str, str]]]
    look_alike: list[list[tuple[str, str]]]
    """Without the groups of which all are of the same bytes."""

    @staticmethod
    def across_splits(groups: list[list[tuple[str, str]]]) -> int:
        """Of the groups, how many have images in more than one split."""
        return sum(len({split for split, _ in group}) > 1 for group in groups)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A source, looked at."""

    name: str
    splits: dict[str, SplitInspection]
    corrupt: list[tuple[str, str]]
    """(file, reason)."""
    repeated: Repeated


def inspect_dataset(dataset: Dataset) -> Inspection:
    """Reads every image, those that channel means are taken over twice. Images that cannot be decoded are reported as
    corrupt beside those that the source found."""
    sets = {"train": dataset.train, "test": dataset.test}
    if dataset.pretrain is not None:
        sets["pretrain"] = dataset.pretrain
    sets = {name: images for name, images in sets.items() if len(images)}
    repeated, undecodable = _find_repeated(sets)
    return Inspection(
        name=dataset.name,
        splits={name: _inspect_split(images, dataset.classes) for name, images in sets.items()},
        corrupt=[*((str(file.path), file.reason) for file in dataset.skipped), *undecodable],
        repeated=repeated,
    )


def _inspect_split(images: ImageSet, classes: tuple[str, ...]) -> SplitInspection:
    sizes = images.sizes_HW
    areas = np.argsort(sizes[:, 0].astype(np.int64) * sizes[:, 1], kind="stable")
    smallest, median, largest = (sizes[areas[place]] for place in (0, len(areas) // 2, -1))
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(np.int64))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [one for one in pool.map(lambda index: _moments(images, index), chosen.tolist()) if one is not None]
    mean, square = np.array(found).mean(0) if found else np.full((2, 3), np.nan)
    return SplitInspection(
        images=len(images),
        images_of_classes={name: int((images.labels == label).sum()) for label, name in enumerate(classes)},
        smallest_HW=(int(smallest[0]), int(smallest[1])),
        median_HW=(int(median[0]), int(median[1])),
        largest_HW=(int(largest[0]), int(largest[1])),
        channel_mean=_triple(mean),
        channel_std=_triple(np.sqrt(np.maximum(square - mean**2, 0))),
        sampled=len(found),
    )


def _moments(images: ImageSet, index: int) -> NDArray[np.float64] | None:
    """Means of values and of their squares [2, 3]; None where the image cannot be decoded."""
    try:
        values = np.asarray(open_image(images, index), dtype=np.float64).reshape(-1, 3) / 255
    except UNDECODABLE:
        return None
    return np.stack([values.mean(0), np.square(values).mean(0)])


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An image's place, and what tells it from others."""

    split: str
    name: str
    digest: bytes
    small: NDArray[np.uint8]


def _see(split: str, images: ImageSet, index: int) -> _Seen | tuple[str, str]:
    """Or (name, reason) of an image that cannot be decoded."""
    name = images.describe(index)
    try:
        content = images.stored_bytes(index)
        picture = decode_image(content, at_least=2 * THUMBNAIL) if images.encoded else open_image(images, index)
        digest, small = hashlib.sha256(content).digest(), thumbnail(picture)
    except UNDECODABLE as error:
        return name, str(error)
    return _Seen(split=split, name=name, digest=digest, small=small)


def _find_repeated(sets: dict[str, ImageSet]) -> tuple[Repeated, list[tuple[str, str]]]:
    """And the images that cannot be decoded, with the reasons."""
    places = [(split, images, index) for split, images in sets.items() for index in range(len(images))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda place: _see(*place), places))
    seen = [one for one in found if isinstance(one, _Seen)]
    same: dict[bytes, list[_Seen]] = {}
    for one in seen:
        same.setdefault(one.digest, []).append(one)
    groups = look_alikes(np.array([one.small for one in seen]).reshape(-1, THUMBNAIL, THUMBNAIL))
    alike = [[seen[number] for number in group.tolist()] for group in groups]
    repeated = Repeated(
        same_bytes=[_named(group) for group in same.values() if len(group) > 1],
        look_alike=[_named(group) for group in alike if len({one.digest for one in group}) > 1],
    )
    return repeated, [one for one in found if not isinstance(one, _Seen)]


def _named(group: list[_Seen]) -> list[tuple[str, str]]:
    return [(one.split, one.name) for one in group]
