"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): colour images of 32 px, as published in binary or in Python's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.formats.class_list import archive_classes, checked_names
from issl_engine.sources.formats.file_bytes import file_content
from issl_engine.sources.formats.safe_pickle import load_pickle

HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
SIDE = 32
PIXELS = 3 * SIDE * SIDE
"""Bytes of one image: the red plane, the green one, the blue one, each row by row."""
Labels = Literal["fine", "coarse"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One of the four archives: the folder that it unpacks to, and its files."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: tuple[str, ...]
    is_cifar100: bool
    is_binary: bool

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, *self.names)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS = (
    Layout(
        folder="cifar-10-batches-bin", train=tuple(f"{name}.bin" for name in _BATCHES), test="test_batch.bin",
        names=("batches.meta.txt",), is_cifar100=False, is_binary=True,
    ),
    Layout(
        folder="cifar-10-batches-py", train=_BATCHES, test="test_batch", names=("batches.meta",), is_cifar100=False,
        is_binary=False,
    ),
    Layout(
        folder="cifar-100-binary", train=("train.bin",), test="test.bin",
        names=("fine_label_names.txt", "coarse_label_names.txt"), is_cifar100=True, is_binary=True,
    ),
    Layout(
        folder="cifar-100-python", train=("train",), test="test", names=("meta",), is_cifar100=True, is_binary=False,
    ),
)  # fmt: skip


class CifarConfig(SourceConfig):
    """CIFAR-10 or CIFAR-100, held in memory."""

    name: Literal["cifar"] = "cifar"
    folder: Path
    """Folder of the unpacked archive, binary or Python version, such as cifar-10-batches-bin or cifar-100-python."""
    labels: Labels = "fine"
    """CIFAR-100's labels: 100 fine classes or 20 coarse ones. CIFAR-10 has only one kind, fine."""

    def load(self) -> Dataset:
        layout = self._layout()
        if self.labels == "coarse" and not layout.is_cifar100:
            raise SourceError(f"source.labels: {self.folder} holds CIFAR-10, which has no coarse labels; take fine")
        read = _read_binary if layout.is_binary else _read_pickle
        classes = (_binary_names if layout.is_binary else _pickled_names)(self.folder, layout, self.labels)

        def split(names: tuple[str, ...]) -> ImageSet:
            parts = [read(self.folder / name, layout, self.labels) for name in names]
            for name, (_, labels) in zip(names, parts, strict=True):
                if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
                    raise SourceError(
                        f"{self.folder / name}: there is a label {labels.max()}, but only {len(classes)} class names "
                        f"in {', '.join(layout.names)}; fetch the archive again from {HOME}"
                    )
            return ImageSet.of_pixels(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

        return Dataset(
            name="cifar100" if layout.is_cifar100 else "cifar10",
            classes=classes,
            train=split(layout.train),
            test=split((layout.test,)),
        )

    def _layout(self) -> Layout:
        whole = [layout for layout in LAYOUTS if all((self.folder / name).is_file() for name in layout.files)]
        if len(whole) == 1:
            return whole[0]
        if whole:
            found = " and ".join(layout.folder for layout in whole)
            raise SourceError(f"source.folder: {self.folder} holds the files of {found}; put each into its own folder")
        inside = [layout.folder for layout in LAYOUTS if (self.folder / layout.folder).is_dir()]
        if inside:
            raise SourceError(f"source.folder: {self.folder} has the archive's folder in it; name {inside[0]} there")
        begun = next((found for found in LAYOUTS if any((self.folder / name).is_file() for name in found.files)), None)
        if begun is not None:
            missing = ", ".join(name for name in begun.files if not (self.folder / name).is_file())
            raise SourceError(f"source.folder: {self.folder} lacks {missing}; unpack the whole archive from {HOME}")
        raise SourceError(
            f"source.folder: {self.folder} is none of {', '.join(layout.folder for layout in LAYOUTS)}; fetch an "
            f"archive from {HOME} and unpack it"
        )


Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, 32, 32, 3] and labels [n] of one file."""


def _read_binary(path: Path, layout: Layout, labels: Labels) -> Part:
    """Records of a label (CIFAR-100: the coarse one, then the fine one) and the pixels."""
    content = np.frombuffer(file_content(path), dtype=np.uint8)
    label_bytes = 2 if layout.is_cifar100 else 1
    record = label_bytes + PIXELS
    if not len(content) or len(content) % record:
        raise SourceError(
            f"{path}: has {len(content)} bytes, which is no whole number of records of {record}; fetch it again"
        )
    records = content.reshape(-1, record)
    return _upright(records[:, label_bytes:]), records[:, 1 if labels == "fine" and label_bytes == 2 else 0].astype(int)


def _read_pickle(path: Path, layout: Layout, labels: Labels) -> Part:
    content = load_pickle(path)
    key = f"{labels}_labels" if layout.is_cifar100 else "labels"
    data, values = _entry(path, content, "data"), _entry(path, content, key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise SourceError(f"{path}: its 'data' is no array of unsigned bytes [n, {PIXELS}]; fetch it again")
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values) or len(values) != len(data):
        raise SourceError(f"{path}: its '{key}' is no list of {len(data)} whole numbers; fetch it again")
    return _upright(data), np.array(values, dtype=np.int64)


def _upright(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, 3072] → [n, 32, 32, 3], without a copy."""
    return planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _binary_names(folder: Path, layout: Layout, labels: Labels) -> tuple[str, ...]:
    path = folder / (f"{labels}_label_names.txt" if layout.is_cifar100 else layout.names[0])
    return archive_classes(path, HOME)


def _pickled_names(folder: Path, layout: Layout, labels: Labels) -> tuple[str, ...]:
    path = folder / layout.names[0]
    found = _entry(path, load_pickle(path), f"{labels}_label_names" if layout.is_cifar100 else "label_names")
    names = [name.decode("latin1") if isinstance(name, bytes) else name for name in list(found)]
    return checked_names(path, names, HOME)


def _entry(path: Path, content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise SourceError(f"{path}: there is no '{key}' in it (there are: {', '.join(sorted(content))})")
    return content[key]
