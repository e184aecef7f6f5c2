"""What a source gives the rest of the engine: a data set of two splits, their images, and numbers about each image.

Letters: n images of a split, H height, W width, C channels (1 or 3), T columns of a table of targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.sources.balanced_subset import balanced_subset
from issl_engine.sources.byte_ranges import ByteRanges


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """What an image has besides its class: numbers to predict, or attributes that it has or has not.

    ``values_NT`` float32 [n, T], NaN where a value is unknown; ``names`` of its T columns. In a table of attributes 1
    means that the image has it, and 0 that it has not.
    """

    names: tuple[str, ...]
    values_NT: NDArray[np.float32]

    def __post_init__(self) -> None:
        assert self.values_NT.dtype == np.float32
        assert self.values_NT.ndim == 2
        assert self.values_NT.shape[1] == len(self.names) > 0

    def __len__(self) -> int:
        return len(self.values_NT)

    def subset(self, indices: NDArray[np.int64]) -> "TargetTable":
        """The images at ``indices``, in that order."""
        return TargetTable(names=self.names, values_NT=self.values_NT[indices])

    def joined(self, other: "TargetTable") -> "TargetTable":
        """These images, then the other's."""
        assert self.names == other.names
        return TargetTable(names=self.names, values_NT=np.concatenate([self.values_NT, other.values_NT]))


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images of one split, stored in one of three ways: encoded, one file per image; encoded, inside larger files;
    as pixels.

    ``labels`` int64 [n]; ``sizes_HW`` int32 [n, 2] in pixels, upright; ``paths`` n absolute file names; ``ranges`` n
    places in files; ``pixels`` uint8 [n, H, W, C] with C 1 or 3. ``values`` are numbers that probes may predict besides
    the class, and ``attributes`` what an image has or has not; both None for sources that do not know them.
    """

    labels: NDArray[np.int64]
    sizes_HW: NDArray[np.int32]
    paths: tuple[str, ...] | None = None
    ranges: ByteRanges | None = None
    pixels: NDArray[np.uint8] | None = None
    values: TargetTable | None = None
    attributes: TargetTable | None = None

    def __post_init__(self) -> None:
        stored = [one for one in (self.paths, self.ranges, self.pixels) if one is not None]
        assert len(stored) == 1
        assert len(self.labels) == len(self.sizes_HW) == len(stored[0])
        assert all(len(table) == len(self.labels) for table in (self.values, self.attributes) if table is not None)

    @staticmethod
    def of_pixels(pixels: NDArray[np.uint8], labels: NDArray[Any]) -> "ImageSet":
        """``pixels`` [n, H, W, C] are taken as they lie, in memory or in a mapped file: loaders copy batches only."""
        return ImageSet(
            labels=labels.astype(np.int64),
            sizes_HW=np.broadcast_to(np.array(pixels.shape[1:3], dtype=np.int32), (len(pixels), 2)),
            pixels=pixels,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def encoded(self) -> bool:
        """Whether images are stored as JPEG, PNG and the like, and not as pixels."""
        return self.pixels is None

    def describe(self, index: int) -> str:
        """How an error message names this image."""
        if self.paths is not None:
            return self.paths[index]
        return self.ranges.describe(index) if self.ranges is not None else f"image {index}"

    def stored_bytes(self, index: int) -> bytes:
        """The encoded image, or its pixels: the same bytes are the same image. Raises OSError."""
        if self.paths is not None:
            with open(self.paths[index], "rb") as file:
                return file.read()
        if self.ranges is not None:
            return self.ranges.read(index)
        assert self.pixels is not None
        content: bytes = self.pixels[index].tobytes()
        return content

    def subset(self, indices: NDArray[np.int64]) -> "ImageSet":
        """The images at ``indices``, in that order."""
        return replace(
            self,
            labels=self.labels[indices],
            sizes_HW=self.sizes_HW[indices],
            paths=None if self.paths is None else tuple(self.paths[i] for i in indices),
            ranges=None if self.ranges is None else self.ranges.subset(indices),
            pixels=None if self.pixels is None else self.pixels[indices],
            values=None if self.values is None else self.values.subset(indices),
            attributes=None if self.attributes is None else self.attributes.subset(indices),
        )


def no_images() -> ImageSet:
    """An empty split."""
    return ImageSet(labels=np.zeros(0, np.int64), sizes_HW=np.zeros((0, 2), np.int32), paths=())


@dataclass(frozen=True, kw_only=True)
class CorruptFile:
    """An image file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A source, loaded: two splits that share no image, and the names of the classes.

    ``pretrain`` holds images without classes (labels -1) that pretraining takes instead of the training split, which
    probes go on using; None where pretraining takes the training split.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    pretrain: ImageSet | None = None
    skipped: tuple[CorruptFile, ...] = field(default=())
    places: NDArray[np.int64] | None = None
    """Which of those images pretraining takes, None for all: see ``with_share``."""

    @property
    def pretraining_images(self) -> ImageSet:
        """What pretraining sees."""
        images = self.train if self.pretrain is None else self.pretrain
        return images if self.places is None else images.subset(self.places)

    def with_share(self, share: float) -> "Dataset":
        """The same data set, of which pretraining takes a share, as many images of each class; the same ones whenever
        it is asked for. Probes keep both splits. Raises SourceError where that is no image."""
        images = self.train if self.pretrain is None else self.pretrain
        count = round(share * len(images))
        if count == 0:
            raise SourceError(
                f"training.image_share ({share:g}) of the {len(images)} images of {self.name} is none; make it larger"
            )
        return replace(self, places=balanced_subset(images.labels, count, seed=0))

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class SourceError(Mistake):
    """A user's mistake about a source: one sentence that says what is wrong, where, and what to do."""


def listed(names: Sequence[str], *, at_most: int, between: str = ", ") -> str:
    """The first names as messages list them, and how many more there are."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return between.join(names[:at_most]) + more


class SourceConfig(Config):
    """Base of every source's Config: its ``name`` is a Literal."""

    name: str

    def load(self) -> Dataset:
        """Read (or make) the images. Raises SourceError."""
        raise AssertionError(f"{type(self).__name__} must implement load")

    def survey(self) -> Dataset:
        """As load, for looking at: corrupt files and images in both splits are no error here, however many."""
        return self.load()
