"""The MNIST family: four IDX files of grey images and labels, of any size (MNIST, K-MNIST, EMNIST and their like)."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.formats.file_bytes import file_content
from issl_engine.sources.formats.idx import idx_path, parse_idx, unpack
from issl_engine.sources.images.checks import check_labels

HOME = "https://yann.lecun.com/exdb/mnist"
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
ALSO_TEST = "test"
"""EMNIST's word for what MNIST calls t10k."""


class MNISTConfig(SourceConfig):
    """Grey images in four IDX files (MNIST, K-MNIST, EMNIST, ...), held in memory."""

    name: Literal["mnist"] = "mnist"
    folder: Path
    """Folder of the four IDX files, packed (.gz) or not. MNIST's are published at
    https://yann.lecun.com/exdb/mnist (a copy: https://github.com/cvdfoundation/mnist)."""
    prefix: str = ""
    """What the files' names begin with, such as emnist-letters-."""
    transposed: bool = False
    """Whether rows and columns are swapped in the files, as in EMNIST's."""
    classes: tuple[str, ...] | None = None
    """Names of labels 0, 1, ...; null names classes by the labels that the training split has, in order."""

    def load(self) -> Dataset:
        train, test = self._read("train"), self._read("t10k")
        if train[0].shape[1:] != test[0].shape[1:]:
            raise SourceError(
                f"{self.folder}: training images are of {_size(train[0])} px, test images of {_size(test[0])} px; "
                "put the files of one dataset into the folder"
            )
        values = np.unique(train[1]) if self.classes is None else np.arange(len(self.classes))
        for split, (_, labels) in (("train", train), ("t10k", test)):
            check_labels(str(self._path(split, "labels")), labels, values, named=self.classes is not None)
        return Dataset(
            name=self.folder.resolve().name,
            classes=tuple(map(str, values)) if self.classes is None else self.classes,
            train=ImageSet.of_pixels(train[0][..., None], np.searchsorted(values, train[1])),
            test=ImageSet.of_pixels(test[0][..., None], np.searchsorted(values, test[1])),
        )

    def _read(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images [n, H, W] and labels [n]."""
        paths = [self._path(split, content) for content in ("images", "labels")]
        images, labels = (parse_idx(unpack(file_content(path), path), path) for path in paths)
        for path, array, axes in zip(paths, (images, labels), (3, 1), strict=True):
            if array.ndim != axes:
                raise SourceError(f"{path}: has {array.ndim} axes, sizes {list(array.shape)}, but must have {axes}")
            if not array.size:
                raise SourceError(f"{path}: the file is empty, sizes {list(array.shape)}; fetch it again")
        if len(images) != len(labels):
            raise SourceError(f"{paths[1]}: has {len(labels)} labels for the {len(images)} images of {paths[0].name}")
        return images.swapaxes(1, 2) if self.transposed else images, labels

    def _path(self, split: str, content: str) -> Path:
        axes = 3 if content == "images" else 1
        splits = (split, ALSO_TEST) if split == "t10k" else (split,)
        for each in splits:
            path = idx_path(self.folder, f"{self.prefix}{each}-{content}-idx{axes}-ubyte")
            if path is not None:
                return path
        expected = ", ".join(self.prefix + name for name in FILES)
        raise SourceError(
            f"source.folder: {self.folder} lacks the IDX file {self.prefix}{split}-{content}-idx{axes}-ubyte, packed "
            f"(.gz) or not; all of {expected} must be there (MNIST's are published at {HOME})"
        )


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]} x {images.shape[2]}"
