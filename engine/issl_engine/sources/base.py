"""What a dataset source gives the rest of the engine.

Letters: n images of a split, H height, W width, C channels (1 or 3).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.sources.byte_ranges import ByteRanges
from issl_engine.sources.target_table import TargetTable


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images of one split, in one of three ways: encoded, a file each; encoded, inside larger files; pixels.

    ``labels`` int64 [n]; ``sizes_HW`` int32 [n, 2] in pixels, upright; ``paths`` n absolute file names; ``ranges`` n
    places in files; ``pixels`` uint8 [n, H, W, C] with C 1 or 3. ``values`` are numbers that probes may predict besides
    the class and ``attributes`` what an image has or has not, for sources that know them.
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
        return self.pixels[index].tobytes()

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

    @property
    def pretraining_images(self) -> ImageSet:
        """What pretraining sees."""
        return self.train if self.pretrain is None else self.pretrain

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class SourceError(Mistake):
    """A user's mistake about a source: one sentence that says what is wrong, where, and what to do."""


class SourceConfig(Config):
    """Base of every source's Config: its ``name`` is a Literal."""

    name: str

    def load(self) -> Dataset:
        """Read (or make) the images. Raises SourceError."""
        raise AssertionError(f"{type(self).__name__} must implement load")

    def survey(self) -> Dataset:
        """As load, for looking at: corrupt files and images in both splits are no error here, however many."""
        return self.load()
