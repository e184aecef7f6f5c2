"""Images and labels in NumPy's or HDF5's files: unsigned bytes, all of one size."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from issl_engine.mistakes import Mistake
from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError, TargetTable
from issl_engine.sources.formats.array_files import open_array
from issl_engine.sources.images.checks import check_labels


class ArraysConfig(SourceConfig):
    """Arrays in .npy, .npz or HDF5 files, mapped and not read; .npz and HDF5 as FILE:NAME, such as a.h5:train/x."""

    name: Literal["arrays"] = "arrays"
    train_images: str
    """Training images, uint8 [n, height, width] or [n, height, width, channels]: a .npy file, or FILE:NAME."""
    train_labels: str
    """Their labels, whole numbers [n] from 0 on."""
    test_images: str
    """Test images, as the training ones."""
    test_labels: str
    """Their labels."""
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    """Order of the four axes of images: channels (1 or 3) last or second; of no matter for three axes."""
    classes: tuple[str, ...] | None = None
    """Names of labels 0, 1, ...; null names them by their numbers."""
    train_values: str | None = None
    """Numbers [n, columns] of the training images, NaN where one is unknown, for the probe regression; null: none."""
    test_values: str | None = None
    """Those of the test images."""
    value_names: tuple[str, ...] | None = None
    """Names of the columns of values; null numbers them."""
    train_attributes: str | None = None
    """What a training image has (1), has not (0), or may have (NaN) [n, columns], for the probe multi_label; null:
    none."""
    test_attributes: str | None = None
    """Those of the test images."""
    attribute_names: tuple[str, ...] | None = None
    """Names of the columns of attributes; null numbers them."""

    @model_validator(mode="after")
    def _both_splits_have_targets(self) -> Self:
        for kind in ("values", "attributes"):
            train, test = getattr(self, f"train_{kind}"), getattr(self, f"test_{kind}")
            if (train is None) != (test is None):
                given, missing = ("test", "train") if train is None else ("train", "test")
                raise Mistake(f"{given}_{kind} is set, but {missing}_{kind} is not; give both or neither")
            if train is None and getattr(self, f"{kind[:-1]}_names") is not None:
                raise Mistake(f"{kind[:-1]}_names is set, but train_{kind} is not; set it or remove the names")
        return self

    def load(self) -> Dataset:
        train, test = self._split("train"), self._split("test")
        if train.pixels is not None and test.pixels is not None and train.pixels.shape[3] != test.pixels.shape[3]:
            raise SourceError(
                f"source.test_images: {self.test_images} has {test.pixels.shape[3]} channels, but the training images "
                f"have {train.pixels.shape[3]}; make them alike"
            )
        for kind, here, there in (
            ("values", train.values, test.values), ("attributes", train.attributes, test.attributes),
        ):  # fmt: skip
            if here is not None and there is not None and here.names != there.names:
                raise SourceError(
                    f"source.test_{kind}: {getattr(self, f'test_{kind}')} has {len(there.names)} columns, but the "
                    f"training images have {len(here.names)}; make them alike"
                )
        num_classes = len(self.classes) if self.classes is not None else int(train.labels.max()) + 1
        for key, labels in (("train_labels", train.labels), ("test_labels", test.labels)):
            place = f"source.{key}: {getattr(self, key)}"
            check_labels(place, labels, np.arange(num_classes), named=self.classes is not None)
        empty = np.setdiff1d(np.arange(num_classes), train.labels)
        if empty.size:
            raise SourceError(
                f"source.train_labels: {self.train_labels}: no image has label {empty[0]}; labels must be 0, 1, 2 and "
                "so on, each with an image"
            )
        names = self.classes if self.classes is not None else tuple(map(str, range(num_classes)))
        return Dataset(name=Path(self.train_images.partition(":")[0]).stem, classes=names, train=train, test=test)

    def _split(self, split: str) -> ImageSet:
        key, place = f"source.{split}_images", getattr(self, f"{split}_images")
        images = open_array(place, key)
        pixels = self._channels_last(images, f"{key}: {place}")
        labels = _labels(f"source.{split}_labels", getattr(self, f"{split}_labels"))
        if len(labels) != len(pixels):
            raise SourceError(
                f"source.{split}_labels: {getattr(self, f'{split}_labels')} has {len(labels)} labels, but {place} has "
                f"{len(pixels)} images; make them agree"
            )
        values = self._targets(split, "values", len(pixels))
        attributes = self._targets(split, "attributes", len(pixels))
        return replace(ImageSet.of_pixels(pixels, labels), values=values, attributes=attributes)

    def _targets(self, split: str, kind: str, count: int) -> TargetTable | None:
        place, names_key = getattr(self, f"{split}_{kind}"), f"{kind[:-1]}_names"
        if place is None:
            return None
        names = getattr(self, names_key)
        return _target_table(f"source.{split}_{kind}", place, names, f"source.{names_key}", count)

    def _channels_last(self, images: NDArray[Any], place: str) -> NDArray[np.uint8]:
        """[n, H, W, C], without a copy."""
        shape = list(images.shape)
        if images.dtype != np.uint8:
            raise SourceError(f"{place} holds {images.dtype}, but images must be uint8 (0 to 255); convert them")
        if images.ndim not in (3, 4) or 0 in shape:
            raise SourceError(
                f"{place} has the shape {shape}, but images are [n, height, width] or have one more axis of channels"
            )
        if images.ndim == 3:
            return images[..., None]
        other = "NCHW" if self.layout == "NHWC" else "NHWC"
        channels, if_other = (shape[3], shape[1]) if self.layout == "NHWC" else (shape[1], shape[3])
        if channels not in (1, 3):
            hint = f"; set source.layout to {other}" if if_other in (1, 3) else ", which must be 1 or 3"
            raise SourceError(f"{place} has the shape {shape}, so in layout {self.layout} {channels} channels{hint}")
        return images if self.layout == "NHWC" else images.transpose(0, 2, 3, 1)


def _labels(key: str, place: str) -> NDArray[np.int64]:
    labels = open_array(place, key)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise SourceError(
            f"{key}: {place} is {labels.dtype} of shape {list(labels.shape)}, but labels are whole numbers [n], one "
            "per image; convert them"
        )
    if labels.min() < 0:
        raise SourceError(
            f"{key}: {place} has the label {labels.min()}, but labels count from 0; leave such images out"
        )
    return labels.astype(np.int64)


def _target_table(key: str, place: str, names: tuple[str, ...] | None, names_key: str, count: int) -> TargetTable:
    """A table [n, T] or a column [n], as float32; columns without names are numbered. Raises SourceError."""
    array = open_array(place, key)
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise SourceError(
            f"{key}: {place} is {array.dtype} of shape {list(array.shape)}, but it must hold numbers [n, columns], one "
            "row per image (NaN where one is unknown); convert it"
        )
    if len(array) != count:
        raise SourceError(f"{key}: {place} has {len(array)} rows, but there are {count} images; make them agree")
    values_NT = np.asarray(array, dtype=np.float32).reshape(count, -1)
    if np.isinf(values_NT).any():
        raise SourceError(f"{key}: {place} holds an infinite number; write NaN where a number is unknown")
    columns = values_NT.shape[1]
    if names is not None and len(names) != columns:
        raise SourceError(f"{names_key}: there are {len(names)} names, but {place} has {columns} columns")
    return TargetTable(names=names if names is not None else tuple(map(str, range(columns))), values_NT=values_NT)
