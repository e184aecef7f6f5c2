"""What a source holds: counts, sizes, corrupt files, repeated images, channel means."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.sources.images.ordered_threads import map_in_order
from issl_engine.sources.images.picture import UNDECODABLE, decode_image, open_image
from issl_engine.sources.images.repeated import THUMBNAIL, Repeated, find_repeated, thumbnail

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
class Inspection:
    """A source, looked at."""

    name: str
    splits: dict[str, SplitInspection]
    corrupt: list[tuple[str, str]]
    """(file, reason)."""
    repeated: Repeated


def inspect_dataset(dataset: Dataset, *, on_progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Reads and decodes every image once. Images that cannot be decoded are reported as corrupt beside those that the
    source found. ``on_progress`` is called with the number of images done, and of all.

    JPEGs that channel means are taken over are decoded whole, the others at a fraction of their size. An eighth of the
    size would keep the means (within 0.001 on 500 JPEGs of 500 x 375), but lower the standard deviations by 0.012.
    """
    sets = {"train": dataset.train, "test": dataset.test}
    if dataset.pretrain is not None:
        sets["pretrain"] = dataset.pretrain
    sets = {name: images for name, images in sets.items() if len(images)}
    places = [_Place(split, images, index) for split, images in sets.items() for index in range(len(images))]
    sampled = {split: set(_spread(len(images))) for split, images in sets.items()}
    seen: list[_Seen] = []
    undecodable: list[tuple[str, str]] = []
    looked_at = map_in_order(lambda place: _see(place, whole=place.index in sampled[place.split]), places)
    for done, one in enumerate(looked_at, start=1):
        if isinstance(one, _Seen):
            seen.append(one)
        else:
            undecodable.append(one)
        if on_progress is not None:
            on_progress(done, len(places))
    moments: dict[str, list[NDArray[np.float64]]] = {split: [] for split in sets}
    for one in seen:
        if one.moments is not None:
            moments[one.place.split].append(one.moments)
    return Inspection(
        name=dataset.name,
        splits={name: _inspect_split(images, dataset.classes, moments[name]) for name, images in sets.items()},
        corrupt=[*((str(file.path), file.reason) for file in dataset.skipped), *undecodable],
        repeated=find_repeated(
            [(one.place.split, one.place.images.describe(one.place.index)) for one in seen],
            [one.digest for one in seen],
            np.array([one.small for one in seen]).reshape(-1, THUMBNAIL, THUMBNAIL),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """An image of a split."""

    split: str
    images: ImageSet
    index: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """An image, what distinguishes it from others, and its moments [2, 3] if it is in the sample, else None."""

    place: _Place
    digest: bytes
    small: NDArray[np.uint8]
    moments: NDArray[np.float64] | None


def _spread(num_images: int) -> list[int]:
    """The images that means are taken over."""
    return [int(index) for index in np.linspace(0, num_images - 1, min(SAMPLE, num_images))]


def _see(place: _Place, *, whole: bool) -> _Seen | tuple[str, str]:
    """Or (name, reason) of an image that cannot be decoded."""
    images, index = place.images, place.index
    try:
        content = images.stored_bytes(index)
        at_least = None if whole else 2 * THUMBNAIL
        picture = decode_image(content, at_least=at_least) if images.encoded else open_image(images, index)
        moments = _moments(picture) if whole else None
        return _Seen(place, hashlib.sha256(content).digest(), thumbnail(picture), moments)
    except UNDECODABLE as error:
        return images.describe(index), str(error)


def _moments(picture: Image.Image) -> NDArray[np.float64]:
    """Means of red, green and blue, 0 to 1, and of their squares [2, 3]."""
    counts = np.array(picture.histogram(), dtype=np.float64).reshape(3, 256)
    values = np.arange(256) / 255
    return np.stack([counts @ values, counts @ np.square(values)]) / (picture.width * picture.height)


def _inspect_split(images: ImageSet, classes: tuple[str, ...], moments: list[NDArray[np.float64]]) -> SplitInspection:
    sizes = images.sizes_HW
    areas = np.argsort(sizes[:, 0].astype(np.int64) * sizes[:, 1], kind="stable")
    smallest, median, largest = (sizes[areas[place]] for place in (0, len(areas) // 2, -1))
    mean, square = np.array(moments).mean(0) if moments else np.full((2, 3), np.nan)
    return SplitInspection(
        images=len(images),
        images_of_classes={name: int((images.labels == label).sum()) for label, name in enumerate(classes)},
        smallest_HW=(int(smallest[0]), int(smallest[1])),
        median_HW=(int(median[0]), int(median[1])),
        largest_HW=(int(largest[0]), int(largest[1])),
        channel_mean=_triple(mean),
        channel_std=_triple(np.sqrt(np.maximum(square - mean**2, 0))),
        sampled=len(moments),
    )


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
