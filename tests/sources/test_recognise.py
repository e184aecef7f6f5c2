"""Which source reads a folder, found by its files."""

from pathlib import Path
from typing import Literal

import pytest

from issl_engine.sources import recognise
from issl_engine.sources.base import SourceConfig, SourceError
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.recognise import source_of_folder


class Tar(SourceConfig):
    name: Literal["webdataset"] = "webdataset"
    folder: Path


class Record(SourceConfig):
    name: Literal["tfrecord"] = "tfrecord"
    folder: Path


class Table(SourceConfig):
    name: Literal["parquet"] = "parquet"
    folder: Path


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"image_folder": ImageFolderConfig, "webdataset": Tar, "tfrecord": Record, "parquet": Table}
    monkeypatch.setattr(recognise, "variants", lambda package, base: sources)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("index.json", Tar),
        ("train-000000.tar", Tar),
        ("train/000.tar", Tar),
        ("train-00000-of-01024.tfrecord", Record),
        ("train.tfrecord-00000-of-00002", Record),
        ("train-00000-of-01024", Record),
        ("data/train-00000-of-00001.parquet", Table),
    ],
)
def test_files_show_the_source(file: str, config: type[SourceConfig], tmp_path: Path) -> None:
    touch(tmp_path / file)
    found = source_of_folder(tmp_path)
    assert type(found) is config
    assert found.model_dump()["folder"] == tmp_path


@pytest.mark.parametrize("test_split", ["val", "test"])
def test_class_folders_are_a_folder_of_images_whatever_table_lies_beside_them(test_split: str, tmp_path: Path) -> None:
    for split in ("train", test_split):
        touch(tmp_path / split / "cat" / "0.jpg")
    touch(tmp_path / "table.parquet")
    config = source_of_folder(tmp_path)
    assert isinstance(config, ImageFolderConfig)
    assert (config.folder, config.test_split) == (tmp_path, test_split)


def test_a_folder_without_test_split_is_said_to_lack_it(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "cat" / "0.jpg")
    with pytest.raises(SourceError, match=r"test: the folder is missing"):
        source_of_folder(tmp_path).survey()


def test_other_folders_are_refused_with_what_there_could_be(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(SourceError, match=r"no data set is recognised here; .* or \*\.tar, or .* or \*\.parquet; name"):
        source_of_folder(tmp_path)


def test_a_source_that_is_not_there_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise, "variants", lambda package, base: {"image_folder": ImageFolderConfig})
    touch(tmp_path / "train.tar")
    with pytest.raises(
        SourceError, match=r"there must be train/<class>/\* and val/<class>/\* \(or test/<class>/\*\); name"
    ):
        source_of_folder(tmp_path)
