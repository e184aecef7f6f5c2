"""Images in folders: train/<class>/* and val/<class>/*, ImageNet's layout; <class>/* alone; or listed by a table."""

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from issl_engine.mistakes import Mistake
from issl_engine.sources.base import Dataset, SourceConfig, SourceError
from issl_engine.sources.formats.class_list import given_classes
from issl_engine.sources.formats.manifest import ManifestColumns, ManifestRow, classes_of, labels_of, read_manifest
from issl_engine.sources.image_files.content_split import split_by_content
from issl_engine.sources.image_files.found import ClassFiles, FoundFiles, find_images
from issl_engine.sources.image_files.remembered_sizes import ImageSizes

_log = logging.getLogger("issl_engine")


class ImageFolderConfig(SourceConfig):
    """Folders named by class, in train/ and in the test split's folder or split here; or files that a table lists."""

    name: Literal["image_folder"] = "image_folder"
    folder: Path
    """Folder that holds train/ and the test split's folder; with test_fraction, the folder of the classes; with a
    manifest, what its paths start from."""
    test_split: Literal["val", "test"] = "val"
    """Folder whose images play the test split, or the manifest's word for it."""
    classes: tuple[str, ...] | Path | None = None
    """Classes to take, in this order: a list of names, or a text file, one name per line; null takes all, sorted."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """About this share of the images plays the test split, for images that have no splits: source.folder holds
    <class>/* itself. The content of a file decides, so copies of an image are in one split, and the split is the same
    on every machine. Every file is read for it. null for splits of their own."""
    manifest: Path | None = None
    """CSV or Parquet file with one row per image, in place of one folder per class; null for the folders."""
    path_column: str = "path"
    """The manifest's column of paths, relative to source.folder or absolute."""
    label_column: str = "label"
    """The manifest's column of labels: names, or whole numbers."""
    split_column: str = "split"
    """The manifest's column of splits: train, or test_split's word; other rows are left out."""
    max_corrupt_files: Annotated[int, Field(ge=0)] = 10
    """More unreadable image files than this are an error; fewer are named, counted and left out."""

    @model_validator(mode="after")
    def _columns_belong_to_a_manifest(self) -> Self:
        for key in ("path_column", "label_column", "split_column"):
            if self.manifest is None and getattr(self, key) != type(self).model_fields[key].default:
                raise Mistake(f"{key} is set, but there is no manifest; set manifest or remove {key}")
        return self

    @model_validator(mode="after")
    def _one_thing_splits(self) -> Self:
        if self.test_fraction is not None and (self.manifest is not None or "test_split" in self.model_fields_set):
            other = "manifest" if self.manifest is not None else "test_split"
            raise Mistake(
                f"test_fraction splits images that have no splits, and {other} names them; remove one of them"
            )
        return self

    def load(self) -> Dataset:
        return self._find().dataset(max_corrupt_files=self.max_corrupt_files)

    def survey(self) -> Dataset:
        return self._find().survey()

    def _find(self) -> FoundFiles:
        if not self.folder.is_dir():
            what = "start from" if self.manifest is not None else "find train/ in"
            raise SourceError(f"source.folder: {self.folder} is not a folder; name the one to {what}")
        given = given_classes(self.classes)
        if self.manifest is not None:
            return self._listed(self.manifest, given)
        if self.test_fraction is not None:
            return self._split(self.test_fraction, given)
        train, test = self.folder / "train", self.folder / self.test_split
        classes = _classes(train, test) if given is None else _chosen(given, train, test)
        sizes = ImageSizes(self.folder)
        found = FoundFiles(
            folder=self.folder,
            classes=classes,
            train=[find_images(train / name, sizes) for name in classes],
            test=[find_images(test / name, sizes) for name in classes],
        )
        sizes.save()
        return found

    def _split(self, test_fraction: float, given: tuple[str, ...] | None) -> FoundFiles:
        classes = _class_folders(self.folder) if given is None else _chosen(given, self.folder)
        sizes = ImageSizes(self.folder)
        parts = [split_by_content(find_images(self.folder / name, sizes), test_fraction) for name in classes]
        sizes.save()
        return FoundFiles(
            folder=self.folder, classes=classes, train=[train for train, _ in parts], test=[test for _, test in parts]
        )

    def _listed(self, manifest: Path, given: tuple[str, ...] | None) -> FoundFiles:
        rows = read_manifest(
            manifest, ManifestColumns(path=self.path_column, label=self.label_column, split=self.split_column)
        )
        splits = Counter(row.split for row in rows)
        for split in ("train", self.test_split):
            if not splits[split]:
                raise SourceError(
                    f"{manifest}: no row has '{split}' in column '{self.split_column}' (there are: "
                    f"{', '.join(sorted(splits)[:5])}); correct the column, or choose source.test_split"
                )
        used = [row for row in rows if row.split in ("train", self.test_split)]
        if len(used) < len(rows):
            _log.info("%s: left out %d rows of other splits", manifest, len(rows) - len(used))
        classes = given if given is not None else classes_of(manifest, used)
        labelled = list(zip(used, labels_of(manifest, used, classes, given=given is not None), strict=True))
        sizes = ImageSizes(self.folder)

        def files(split: str) -> list[ClassFiles]:
            mine: list[list[ManifestRow]] = [[] for _ in classes]
            for row, label in labelled:
                if label is not None and row.split == split:
                    mine[label].append(row)
            return [
                ClassFiles(
                    place=f"{manifest}, split {split}, class {name}",
                    files=list(sizes.look_up([self._absolute(row.path) for row in members])),
                )
                for name, members in zip(classes, mine, strict=True)
            ]

        found = FoundFiles(folder=self.folder, classes=classes, train=files("train"), test=files(self.test_split))
        sizes.save()
        return found

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder.absolute(), path))


def _chosen(names: tuple[str, ...], *splits: Path) -> tuple[str, ...]:
    for split in splits:
        there = _class_folders(split)
        missing = [name for name in names if name not in there]
        if missing:
            raise SourceError(
                f"source.classes: {split} has no folder {', '.join(missing[:5])}"
                f"{' and others' if len(missing) > 5 else ''}; correct the list or add the folders"
            )
    return names


def _classes(train: Path, test: Path) -> tuple[str, ...]:
    classes, test_classes = _class_folders(train), _class_folders(test)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise SourceError(
            f"{train.parent}: train/ and {test.name}/ must hold the same classes, but only one "
            f"of them has {', '.join(odd[:5])}{' and others' if len(odd) > 5 else ''}; "
            "add or remove these folders"
        )
    return classes


def _class_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: the folder is missing; image_folder needs train/<class>/* and val/<class>/* "
            "(or test/<class>/* with source.test_split, or <class>/* with source.test_fraction)"
        )
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not classes:
        raise SourceError(f"{folder}: there are no class folders in it; image_folder needs {folder.name}/<class>/*")
    return classes
