"""Parquet files of images: columns, class names, streaming, the cache's copy, and every mistake."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats import parquet_samples
from issl_engine.sources.parquet import ParquetConfig

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(shards: Any, tmp_path: Path) -> Path:
    """As on the Hub: data/train-*, data/validation-* and a test split without labels."""
    place = tmp_path / "set" / "data"
    train = [(shards.encoded(number), number % 2) for number in range(5)]
    shards.parquet(place / "train-00000-of-00002.parquet", train[:3], names=["cat", "dog"])
    shards.parquet(place / "train-00001-of-00002.parquet", train[3:], names=["cat", "dog"])
    test = [(shards.encoded(10 + number), number % 2) for number in range(2)]
    shards.parquet(place / "validation-00000-of-00001.parquet", test, names=["cat", "dog"])
    shards.parquet(place / "test-00000-of-00001.parquet", [(shards.encoded(20), -1)])
    return tmp_path / "set"


def test_classes_are_named_as_the_metadata_says_and_validation_is_the_test_split(folder: Path) -> None:
    dataset = ParquetConfig(folder=folder).load()
    assert (dataset.classes, len(dataset.train), len(dataset.test)) == (("cat", "dog"), 5, 2)
    assert dataset.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert dataset.train.ranges is not None
    assert dataset.train.ranges.names[3] == "train-00001-of-00002.parquet, row 0"
    assert "train-00001-of-00002-" in dataset.train.describe(3)


@pytest.mark.parametrize(
    "metadata", [{}, {"huggingface": "{"}, {"huggingface": '{"info": {"features": {"label": 1}}}'}]
)
def test_without_names_in_the_metadata_classes_are_numbers(metadata: dict[str, str], folder: Path) -> None:
    for path in folder.rglob("*.parquet"):
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(metadata), path)
    assert ParquetConfig(folder=folder).load().classes == ("0", "1")


def test_images_may_be_a_plain_binary_column_of_another_name(folder: Path, shards: Any) -> None:
    for path, seed in ((folder / "train-0.parquet", 30), (folder / "val-0.parquet", 40)):
        shards.parquet(path, [(shards.encoded(seed), 0), (shards.encoded(seed + 1), 1)], plain=True)
        parquet.write_table(parquet.read_table(path).rename_columns(["img", "fine_label", "more"]), path)
    dataset = ParquetConfig(
        folder=folder, train="train-0.parquet", test="val-0.parquet", image_column="img", label_column="fine_label"
    ).load()
    assert dataset.train.stored_bytes(1) == shards.encoded(31)


def test_rows_are_streamed_and_images_copied_once(
    folder: Path, shards: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_samples, "ROWS_AT_ONCE", 2)
    original, sizes = parquet.ParquetFile.iter_batches, []

    def recorded(self: Any, **settings: Any) -> Any:
        for batch in original(self, **settings):
            sizes.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", recorded)
    first = ParquetConfig(folder=folder).load()
    assert sorted(sizes) == [1, 2, 2, 2]
    copies = sorted((own_cache / "unpacked").iterdir())
    assert [path.name.rsplit("-", 1)[0] for path in copies] == [
        "train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"
    ]  # fmt: skip
    ParquetConfig(folder=folder).load()
    assert len(sizes) == 4
    copies[0].unlink()  # a copy that is gone is made again
    assert ParquetConfig(folder=folder).load().train.stored_bytes(0) == first.train.stored_bytes(0)
    assert len(sizes) == 6
    shards.parquet(folder / "data" / "validation-00000-of-00001.parquet", [(shards.encoded(60), 0)])
    assert len(ParquetConfig(folder=folder).load().test) == 1
    assert len(list(copies[0].parent.iterdir())) == 4  # a run that goes on keeps the copy that it knows


def test_rows_without_image_are_left_out(folder: Path, shards: Any) -> None:
    path = folder / "data" / "train-00001-of-00002.parquet"
    images = [None, {"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": None}, {"bytes": shards.encoded(50)}]
    parquet.write_table(pyarrow.table({"image": images, "label": [0, 1, 0, 1]}), path)
    dataset = ParquetConfig(folder=folder).load()
    assert len(dataset.train) == 4
    assert [found.reason.split(": ")[1] for found in dataset.skipped] == [
        "the row has no image",
        "the row has the image's path and not its bytes",
        "the row has no image",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"img": [b"x"], "label": [0]},
            r"no column 'image' \(there are: img, label\); name it in source\.image_column",
        ),
        ({"image": [b"x"], "y": [0]}, r"no column 'label' \(there are: image, y\); name it in source\.label_column"),
        ({"image": [1], "label": [0]}, "column 'image' holds int64, but encoded images are binary, or a struct with a"),
        ({"image": [{"path": "x"}], "label": [0]}, r"column 'image' holds struct<path: string>, but"),
        (
            {"image": [b"x"], "label": [1.5]},
            r"row 0 of column 'label' is neither a whole number nor a name, but of type",
        ),
        (
            {"image": [b"x"], "label": [7]},
            r"label 7, which is no place in the data set's own list of classes, which has 2",
        ),
    ],
)
def test_mistakes_about_columns_are_named(table: dict[str, list[object]], message: str, folder: Path) -> None:
    made = pyarrow.table(table)
    if table.get("label") == [7]:
        made = made.replace_schema_metadata(parquet.read_schema(next(folder.rglob("train-*"))).metadata)
    parquet.write_table(made, folder / "data" / "train-00000-of-00002.parquet")
    with pytest.raises(SourceError, match=message) as error:
        ParquetConfig(folder=folder).load()
    assert "\n" not in str(error.value)


def test_files_that_are_no_parquet_or_damaged_inside_are_named(folder: Path) -> None:
    path = folder / "data" / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    for content in (b"no table", b"", whole[:-10], b"PAR1" + b"\xff" * 900 + whole[904:]):
        path.write_bytes(content)
        with pytest.raises(
            SourceError, match=r"train-00001-of-00002\.parquet: this Parquet file cannot be read \("
        ) as error:
            ParquetConfig(folder=folder).load()
        assert "\n" not in str(error.value)


def test_a_full_disk_leaves_nothing_behind(folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SourceError, match=r"cannot be written \(No space left on device\), .* set ISSL_ENGINE_CACHE"):
        ParquetConfig(folder=folder).load()
    assert list((own_cache / "unpacked").iterdir()) == []


def test_without_pyarrow_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'issl-engine\[parquet\]'"):
        ParquetConfig(folder=folder).load()
