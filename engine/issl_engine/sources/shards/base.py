"""Base of the sources whose images lie many in a file: which files, which labels, what is left out.

A format adds which files are its own and how they are scanned.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from issl_engine.sources.base import CorruptFile, Dataset, SourceConfig, SourceError
from issl_engine.sources.formats.class_list import given_classes
from issl_engine.sources.images.checks import COMPARED_AT_MOST, check_disjoint, report_corrupt
from issl_engine.sources.shards.classes import classes_of_shards
from issl_engine.sources.shards.image_set import shard_images, stored_images
from issl_engine.sources.shards.shard import Shard
from issl_engine.sources.shards.split_files import (
    SPLIT_NAMES,
    SplitFiles,
    check_complete,
    check_files_differ,
    files_by_name,
    files_of_pattern,
)

SHOWN_AT_MOST = 5


class ShardedConfig(SourceConfig):
    """Images that lie many in a file."""

    folder: Path
    """Folder that holds the files, at any depth."""
    train: str | None = None
    """Pattern of the training split's files, relative to the folder: with *, ?, [ab], ** for any depth, {a,b} and
    {000000..000146}; null takes those with the word train in their name, or else in a folder's name."""
    test: str | None = None
    """Pattern of the test split's files; null takes those with val, valid, validation or dev in their name, or else
    with test."""
    pretrain: str | None = None
    """Pattern of files that pretraining takes instead of the training split, with labels or without; null for none."""
    classes: tuple[str, ...] | Path | None = None
    """Classes to take, in this order: a list of names, or a text file with one name per line; null takes all. Where
    labels are numbers without names, the list names labels 0, 1, ..."""
    max_corrupt_files: Annotated[int, Field(ge=0)] = 10
    """More unreadable images (or samples without image or label) than this are an error; fewer are named, counted and
    left out."""

    def load(self) -> Dataset:
        self._check_folder()
        files = self._split_files()
        check_files_differ(files)
        dataset = self._read(files)
        _check_images(self.folder, dataset, max_corrupt_files=self.max_corrupt_files)
        return dataset

    def survey(self) -> Dataset:
        self._check_folder()
        return self._read(self._split_files())

    def _check_folder(self) -> None:
        if not self.folder.is_dir():
            raise SourceError(f"source.folder: {self.folder} is not a folder; name the one that holds the files")

    def _split_files(self) -> SplitFiles:
        """Raises SourceError where there are none."""
        train, test = files_by_name(self.folder, self._is_shard) if not (self.train and self.test) else ([], [])
        found = SplitFiles(
            train=files_of_pattern(self.folder, self.train, "source.train") if self.train else train,
            test=files_of_pattern(self.folder, self.test, "source.test") if self.test else test,
            pretrain=self._pretrain_files(),
        )
        for split, files in (("train", found.train), ("test", found.test)):
            if not files:
                raise SourceError(
                    f"{self.folder}: no file here has a name of the {SPLIT_NAMES[split]} split, such as "
                    f"{self._example(split)}; name its files in source.{split}"
                )
            if getattr(self, split) is None:  # what was asked for by name is taken as it is
                check_complete(files, f"source.{split}")
        return found

    def _pretrain_files(self) -> list[Path] | None:
        return files_of_pattern(self.folder, self.pretrain, "source.pretrain") if self.pretrain else None

    def _example(self, split: str) -> str:
        """A file name that would be taken for this split."""
        raise AssertionError(f"{type(self).__name__} must implement _example")

    def _is_shard(self, name: str) -> bool:
        """Whether a file of this name is of the format."""
        raise AssertionError(f"{type(self).__name__} must implement _is_shard")

    def _label_hint(self) -> str:
        """Where labels are looked for, and the key that says so."""
        raise AssertionError(f"{type(self).__name__} must implement _label_hint")

    def _scan(self, paths: list[Path]) -> list[Shard]:
        """One Shard per path, in their order. Raises SourceError."""
        raise AssertionError(f"{type(self).__name__} must implement _scan")

    def _read(self, files: SplitFiles) -> Dataset:
        given = given_classes(self.classes)
        paths = list(dict.fromkeys(path for split in files.splits.values() for path in split))
        shards = dict(zip(paths, self._scan(paths), strict=True))
        labelled = [shards[path] for path in files.train + files.test]
        parts = {split: [shards[path] for path in paths] for split, paths in files.splits.items()}
        for split in ("train", "test"):
            self._check_labelled(split, parts[split])
        classes = classes_of_shards(labelled, known=files.classes, given=given)
        return Dataset(
            name=files.name or self.folder.resolve().name,
            classes=classes.names,
            train=shard_images(parts["train"], classes),
            test=shard_images(parts["test"], classes),
            pretrain=None if files.pretrain is None else shard_images(parts["pretrain"], None),
            skipped=tuple(dict.fromkeys(_corrupt(parts))),
        )

    def _check_labelled(self, split: str, shards: list[Shard]) -> None:
        total = sum(len(shard) for shard in shards)
        if total and all((shard.label_of < 0).all() for shard in shards):
            raise SourceError(
                f"{shards[0].file}: none of the {total} samples of the {SPLIT_NAMES[split]} split has a label "
                f"({self._label_hint()})"
            )


def _check_images(folder: Path, dataset: Dataset, *, max_corrupt_files: int) -> None:
    """Raises SourceError for too many corrupt images, a split or class without images, an image in both splits."""
    report_corrupt(folder, dataset.skipped, allowed=max_corrupt_files, what="images")
    for split, images in (("train", dataset.train), ("test", dataset.test), ("pretrain", dataset.pretraining_images)):
        if not len(images):
            raise SourceError(f"{folder}: the {SPLIT_NAMES[split]} split has no image that can be read; add some")
    missing = np.setdiff1d(np.arange(dataset.num_classes), dataset.train.labels)
    if missing.size:
        names = ", ".join(dataset.classes[label] for label in missing[:SHOWN_AT_MOST])
        more = " and others" if missing.size > SHOWN_AT_MOST else ""
        raise SourceError(
            f"{folder}: the training split has no image of class {names}{more}; add images, or name the classes to "
            "take in source.classes"
        )
    if len(dataset.train) + len(dataset.test) <= COMPARED_AT_MOST:
        check_disjoint(stored_images(dataset.train), stored_images(dataset.test))


def _corrupt(parts: dict[str, list[Shard]]) -> Iterator[CorruptFile]:
    for split, shards in parts.items():
        for shard in shards:
            reasons = dict(shard.reasons)
            if split != "pretrain":
                for place in np.flatnonzero(shard.label_of < 0).tolist():
                    reasons.setdefault(place, "the sample has no label")
            for place, reason in sorted(reasons.items()):
                yield CorruptFile(path=Path(shard.file), reason=f"{shard.names[place]}: {reason}")
