"""image_folder with a class list or a manifest: what is taken, in which order, and what is said of mistakes."""

import csv
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from issl_engine.sources.base import SourceError
from issl_engine.sources.image_folder import ImageFolderConfig

Rows = list[tuple[str, str, str]]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes with two training images and one validation image each, all different."""
    for number, name in enumerate(("bird", "cat", "dog")):
        for split, count in (("train", 2), ("val", 1)):
            for index in range(count):
                path = tmp_path / "pets" / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20, 16), (80 * number, 90 * index, 5 * count)).save(path)
    return tmp_path / "pets"


ROWS: Rows = [
    ("train/dog/1.png", "dog", "train"),
    ("train/cat/0.png", "cat", "train"),
    ("train/dog/0.png", "dog", "train"),
    ("val/cat/0.png", "cat", "val"),
    ("val/dog/0.png", "dog", "val"),
]


def write_csv(
    path: Path, rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ("path", "label", "split")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def write_parquet(path: Path, rows: Rows, labels: type = str) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths, names, splits = zip(*rows)
    table = {"path": paths, "label": [labels(name) for name in names], "split": splits, "more": [0] * len(rows)}
    parquet.write_table(pyarrow.table(table), path)
    return path


def names(paths: tuple[str, ...] | None) -> list[str]:
    assert paths is not None
    return ["/".join(Path(path).parts[-3:]) for path in paths]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_says_what_is_in_which_split_and_class(kind: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"list.{kind}"
    write_csv(path, ROWS) if kind == "csv" else write_parquet(path, ROWS)
    dataset = ImageFolderConfig(folder=folder, manifest=path).load()
    assert dataset.classes == ("cat", "dog")
    assert names(dataset.train.paths) == ["train/cat/0.png", "train/dog/1.png", "train/dog/0.png"]
    assert dataset.train.labels.tolist() == [0, 1, 1]
    assert names(dataset.test.paths) == ["val/cat/0.png", "val/dog/0.png"]
    assert dataset.train.sizes_HW.tolist() == [[16, 20]] * 3


def test_whole_numbers_are_ordered_by_value_and_name_places_in_a_class_list(folder: Path, tmp_path: Path) -> None:
    numbered = [(path, "10" if label == "cat" else "9", split) for path, label, split in ROWS]
    dataset = ImageFolderConfig(folder=folder, manifest=write_csv(tmp_path / "a.csv", numbered)).load()
    assert dataset.classes == ("9", "10")
    assert names(dataset.train.paths)[-1] == "train/cat/0.png"
    places = [(path, str(["dog", "cat"].index(label)), split) for path, label, split in ROWS]
    parquet = write_parquet(tmp_path / "a.parquet", places, labels=int)
    dataset = ImageFolderConfig(folder=folder, manifest=parquet, classes=("dog", "cat")).load()
    assert dataset.classes == ("dog", "cat")
    assert names(dataset.train.paths)[0] == "train/dog/1.png"
    assert dataset.train.labels.tolist() == [0, 0, 1]
    with pytest.raises(SourceError, match=r"a\.csv, line 2: label 9 is no place in source\.classes, which has 2"):
        ImageFolderConfig(folder=folder, manifest=tmp_path / "a.csv", classes=("dog", "cat")).load()


def test_columns_may_have_other_names_and_paths_may_be_absolute(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(str(folder / path), label, split.replace("val", "test"), "x") for path, label, split in ROWS]
    rows.append(("nowhere.png", "cat", "extra", "x"))
    path = write_csv(tmp_path / "list.csv", rows, header=("file", "kind", "part", "note"))
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        dataset = ImageFolderConfig(
            folder=folder, manifest=path, path_column="file", label_column="kind", split_column="part",
            test_split="test",
        ).load()  # fmt: skip
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    assert "left out 1 rows of other splits" in caplog.text


def test_rows_without_file_are_counted_as_corrupt(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [*ROWS, ("gone.png", "cat", "train"), ("lost.png", "dog", "val")])
    dataset = ImageFolderConfig(folder=folder, manifest=path, max_corrupt_files=2).load()
    assert [skipped.path.name for skipped in dataset.skipped] == ["gone.png", "lost.png"]
    assert all("No such file" in skipped.reason for skipped in dataset.skipped)
    with pytest.raises(SourceError, match=r"2 image files cannot be read, more than .*gone\.png \(No such file"):
        ImageFolderConfig(folder=folder, manifest=path, max_corrupt_files=1).load()


def test_an_image_listed_twice_is_named_with_its_lines(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [*ROWS, ("./train/cat/../cat/0.png", "dog", "val")])
    with pytest.raises(SourceError, match=r"1 images are listed more than once: train/cat/0\.png \(line 3, line 7\)"):
        ImageFolderConfig(folder=folder, manifest=path).load()


def test_one_content_in_both_splits_is_an_error(folder: Path, tmp_path: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "train" / "cat" / "0.png").read_bytes())
    path = write_csv(tmp_path / "list.csv", [*ROWS, ("copy.png", "dog", "val")])
    with pytest.raises(SourceError, match=r"copy\.png: the same image is in the training split"):
        ImageFolderConfig(folder=folder, manifest=path).load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list\.csv: there is no column 'path' \(there are: none\); name it in source\.path_column"),
        ("path,class,split\n", r"no column 'label' \(there are: path, class, split\); name it in source\.label_column"),
        ("path,label,split\n", "the manifest has no row"),
        ("path,label,split\na.png,cat\n", r"line 2: the row has not as many fields as the header \(3\)"),
        ("path,label,split\na,b.png,cat,train\n", "line 2: the row has not as many fields"),
        ("path,label,split\na.png, ,train\n", "line 2: column 'label' is empty"),
        ("path,label,split\na.png,cat,train\n", r"no row has 'val' in column 'split' \(there are: train\)"),
        ("path,label,split\na,1,train\nb,01,val\n", "label 1 is written in several ways"),
        ("path,label,split\na,\xff\xfe,train\n".encode("latin1"), "this is no CSV file in UTF-8"),
    ],
)
def test_mistakes_in_a_manifest_are_named(text: str | bytes, message: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SourceError, match=message) as error:
        ImageFolderConfig(folder=folder, manifest=path).load()
    assert "\n" not in str(error.value)


def test_files_that_are_no_manifest_are_named(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.parquet").write_bytes(b"no table")
    for name, message in (
        ("b.csv", r"source\.manifest: .*b\.csv is not a file"),
        ("a.txt", r"a\.txt must end in \.csv or \.parquet"),
        ("a.parquet", "this Parquet file cannot be read"),
    ):
        with pytest.raises(SourceError, match=message):
            ImageFolderConfig(folder=folder, manifest=tmp_path / name).load()


def test_without_pyarrow_the_extra_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'issl-engine\[parquet\]'"):
        ImageFolderConfig(folder=folder, manifest=tmp_path / "a.parquet").load()


def test_column_names_need_a_manifest(folder: Path) -> None:
    with pytest.raises(ValidationError, match="label_column is set, but there is no manifest"):
        ImageFolderConfig(folder=folder, label_column="kind")


def test_a_class_of_the_manifest_without_images_in_one_split_is_named(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", [row for row in ROWS if row[0] != "val/dog/0.png"])
    with pytest.raises(SourceError, match=r"list\.csv, split val, class dog: the class has no image"):
        ImageFolderConfig(folder=folder, manifest=path).load()


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_class_list_chooses_and_orders_the_folders(in_a_file: bool, folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "val" / "cat" / "more.png")
    (folder / "train" / "fish").mkdir()  # a class that is not taken may be empty, or in one split only
    (tmp_path / "classes.txt").write_text("\ufeffdog\n\n  bird \n", encoding="utf-8")
    classes = tmp_path / "classes.txt" if in_a_file else ("dog", "bird")
    dataset = ImageFolderConfig.model_validate({"folder": folder, "classes": classes}).load()
    assert dataset.classes == ("dog", "bird")
    assert names(dataset.train.paths) == [f"train/{name}/{index}.png" for name in ("dog", "bird") for index in (0, 1)]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert names(dataset.test.paths) == ["val/dog/0.png", "val/bird/0.png"]


def test_a_class_list_chooses_rows_of_a_manifest(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list.csv", ROWS)
    dataset = ImageFolderConfig(folder=folder, manifest=path, classes=("dog",)).load()
    assert (dataset.classes, np.unique(dataset.train.labels).tolist(), len(dataset.train)) == (("dog",), [0], 2)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dog", "wolf", "fox"), r"source\.classes: .*train has no folder wolf, fox; correct the list"),
        (("dog", "cat", "dog"), r"source\.classes: class 'dog' is named twice"),
        ((), r"source\.classes: names no class"),
        (Path("nowhere.txt"), r"source\.classes: nowhere\.txt cannot be read as text"),
    ],
)
def test_mistakes_in_a_class_list_are_named(classes: tuple[str, ...] | Path, message: str, folder: Path) -> None:
    with pytest.raises(SourceError, match=message):
        ImageFolderConfig(folder=folder, classes=classes).load()
