"""What a dataset source gives the rest of the engine.

Letters: n images of a split, H height, W width, C channels (1 or 3).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from issl_engine.config import Config


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The images of one split: either encoded files on disk or pixels in memory, never both.

    ``labels`` int64 [n]; ``sizes_HW`` int32 [n, 2] in pixels; ``paths`` n absolute file names; ``pixels`` uint8
    [n, H, W, C] with C 1 or 3.
    """

    labels: NDArray[np.int64]
    sizes_HW: NDArray[np.int32]
    paths: tuple[str, ...] | None = None
    pixels: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        assert (self.paths is None) != (self.pixels is None)
        assert len(self.labels) == len(self.sizes_HW) == len(self.paths if self.paths is not None else self.pixels)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self, index: int) -> str:
        """How an error message names this image."""
        return self.paths[index] if self.paths is not None else f"image {index}"

    def subset(self, indices: NDArray[np.int64]) -> "ImageSet":
        """The images at ``indices``, in that order."""
        return replace(
            self,
            labels=self.labels[indices],
            sizes_HW=self.sizes_HW[indices],
            paths=None if self.paths is None else tuple(self.paths[i] for i in indices),
            pixels=None if self.pixels is None else self.pixels[indices],
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


class SourceError(ValueError):
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
