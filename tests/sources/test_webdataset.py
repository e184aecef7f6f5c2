"""Tar shards: WebDataset's convention, kinds of tar, packed sets with an index, and every mistake."""

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats import tar_samples
from issl_engine.sources.webdataset import WebDatasetConfig


@pytest.fixture
def folder(shards: Any, tmp_path: Path) -> Path:
    """Three training images of labels 0, 1, 0 and two test images."""
    for split, labels in (("train", (0, 1, 0)), ("val", (1, 0))):
        images = [(shards.encoded(number + 10 * len(labels)), label) for number, label in enumerate(labels)]
        shards.tar(tmp_path / "set" / f"{split}-000000.tar", shards.tar_members(images))
    return tmp_path / "set"


def names(dataset: Any) -> list[str]:
    return list(dataset.train.ranges.names)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_kind_of_tar(format: int, folder: Path, shards: Any) -> None:
    long = "/".join(["a folder"] * 9) + "/" + ("x" * 90 if format == tarfile.USTAR_FORMAT else "größe" * 40)
    image = shards.encoded(1)
    members = [("first.jpg", shards.encoded(2)), ("first.cls", b"0"), (f"{long}.jpg", image), (f"{long}.cls", b"1")]
    shards.tar(folder / "train-000000.tar", members, format)
    dataset = WebDatasetConfig(folder=folder).load()
    assert names(dataset) == ["first.jpg", f"{long}.jpg"]
    assert dataset.train.stored_bytes(1) == image
    assert dataset.train.describe(1) == f"{folder / 'train-000000.tar'}: {long}.jpg"


def test_a_sample_is_all_that_has_one_name_up_to_its_first_dot(folder: Path, shards: Any) -> None:
    a, b, c, mask = (shards.encoded(seed) for seed in range(4))
    members = [
        ("./v1.2/a.seg.PNG", mask), ("./v1.2/a.JPG", a), ("./v1.2/._a.jpg", b"mac"), ("./v1.2/a.CLS", b" 01\n"),
        ("b.cls", b"0"), ("b.txt", b"a caption"), ("b.png", mask), ("b.jpg", b), ("readme", b"no sample"),
        ("c.d.jpg", c), ("c.cls", b"1"),
    ]  # fmt: skip
    shards.tar(folder / "train-000000.tar", members)
    dataset = WebDatasetConfig(folder=folder).load()
    assert names(dataset) == ["./v1.2/a.JPG", "b.jpg"]
    assert [dataset.train.stored_bytes(i) for i in range(2)] == [a, b]
    assert dataset.train.labels.tolist() == [1, 0]
    assert [found.reason for found in dataset.skipped] == ["c: the sample has no image (it has .d.jpg, .cls)"]
    (folder / "val-000000.tar").unlink()
    shards.tar(folder / "val-000000.tar", [("x.seg.png", a), ("x.cls", b"0")])
    chosen = WebDatasetConfig(folder=folder, image_suffixes=("seg.png", ".d.jpg", "png")).load()
    assert names(chosen) == ["./v1.2/a.seg.PNG", "b.png", "c.d.jpg"]


def test_labels_may_be_a_key_of_a_json_member_or_another_member(folder: Path, shards: Any) -> None:
    for path, seed in ((folder / "train-000000.tar", 0), (folder / "val-000000.tar", 9)):
        members = []
        for number, species in enumerate(("newt", "olm")):
            members += [(f"{number}.jpg", shards.encoded(seed + number)), (f"{number}.id", str(number).encode())]
            members += [(f"{number}.json", json.dumps({"species": species, "width": 3, "bad": [1]}).encode())]
        shards.tar(path, members)
    assert WebDatasetConfig(folder=folder, label="json:species").load().classes == ("newt", "olm")
    assert WebDatasetConfig(folder=folder, label=".ID").load().classes == ("0", "1")
    for label, message in (
        ("json:kind", r"key kind of a \.json member; name the member that holds it in source\.label"),
        ("cls", r"\(a \.cls member; name the member"),
        ("json:bad", r"0\.json is neither a whole number nor a name, but of type list; correct source\.label"),
        ("jpg", r"the label in 0\.jpg cannot be read"),
    ):
        with pytest.raises(SourceError, match=message):
            WebDatasetConfig(folder=folder, label=label).load()


def test_links_and_folders_are_no_images(folder: Path, shards: Any) -> None:
    with tarfile.open(folder / "train-000000.tar", "w") as archive:
        for name, kind in (
            ("dir.jpg", tarfile.DIRTYPE),
            ("b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.SYMTYPE),
            ("e.cls", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.jpg"
            archive.addfile(info)
        for key, label in (("a", b"0"), ("b", b"1"), ("d", b"1"), ("e", b"1")):
            for suffix, content in (("jpg", shards.encoded(ord(key))), ("cls", label)):
                if (key, suffix) not in (("b", "jpg"), ("e", "cls")):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    dataset = WebDatasetConfig(folder=folder).load()
    assert names(dataset) == ["a.jpg", "d.jpg"]
    reason = "a link to a.jpg, which has no bytes of its own"
    assert [found.reason for found in dataset.skipped] == [
        f"b.jpg: {reason}",
        f"c.jpg: {reason}",
        "e.jpg: the sample has no label",
    ]


def test_members_stored_with_holes_are_left_out(folder: Path, tmp_path: Path) -> None:
    """GNU tar's sparse files, whose bytes do not lie together."""
    with (tmp_path / "b.jpg").open("wb") as file:
        file.truncate(2**20)
    (tmp_path / "b.cls").write_text("1")
    shard = folder / "train-000001.tar"
    subprocess.run(["tar", "--sparse", "-C", str(tmp_path), "-cf", str(shard), "b.cls", "b.jpg"], check=True)
    assert shard.stat().st_size < 2**16
    dataset = WebDatasetConfig(folder=folder).load()
    assert len(dataset.train) == 3
    assert [found.reason for found in dataset.skipped] == ["b.jpg: stored with holes, so its bytes do not lie together"]


def damaged_header(content: bytes) -> bytes:
    """Of the third member: its checksum is wrong."""
    place = content.index(b"0001.jpg")
    return content[:place] + b"9" + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"<html>" * 200, r"this is no tar file, or a packed or damaged one"),
        (lambda content: b"", r"this is no tar file"),
        (gzip.compress, r"this is no tar file, or a packed or damaged one .*; unpack it or fetch it again"),
        (damaged_header, r"the header at byte \d+ is damaged; fetch or write the shard again"),
        (lambda content: content[: content.index(b"0001.jpg") + 700], r"the file ends before 0001\.jpg does"),
        (lambda content: content[: content.index(b"0001.jpg") + 100], r"the file ends before its end mark does"),
        (lambda content: content[: content.index(b"0001.jpg")], r"the file ends before its end mark does"),
    ],
)
def test_a_damaged_shard_is_named(damage: Callable[[bytes], bytes], message: str, folder: Path) -> None:
    path = folder / "train-000000.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match=rf"train-000000\.tar: {message}") as error:
        WebDatasetConfig(folder=folder).load()
    assert "\n" not in str(error.value)


def test_members_that_are_there_twice_and_shards_without_images_are_named(folder: Path, shards: Any) -> None:
    shards.tar(folder / "train-000000.tar", [("a.jpg", shards.encoded(0)), ("a.cls", b"0"), ("a.jpg", b"")])
    with pytest.raises(SourceError, match=r"a\.jpg is there twice; write the shard again"):
        WebDatasetConfig(folder=folder).load()
    shards.tar(folder / "train-000000.tar", [("a.npy", b"12"), ("a.cls", b"0")])
    with pytest.raises(SourceError, match=r"no member is an image \(there are: \.cls, \.npy\); name their suffix in"):
        WebDatasetConfig(folder=folder).load()
    shards.tar(folder / "train-000000.tar", [("a.jpg", b""), ("a.cls", b"\xff\xfe")])
    with pytest.raises(SourceError, match=r"the label in a\.cls cannot be read"):
        WebDatasetConfig(folder=folder).load()
    shards.tar(folder / "train-000000.tar", [("a.jpg", b""), ("a.cls", b"1" * (2**20 + 1))])
    with pytest.raises(SourceError, match=r"a\.cls has 1048577 bytes and is no label"):
        WebDatasetConfig(folder=folder).load()


def test_a_folder_without_shards_and_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"no file here has .*train-000000\.tar, and no index\.json; name its files in"
    ):
        WebDatasetConfig(folder=tmp_path).load()


@pytest.fixture
def packed(shards: Any, tmp_path: Path) -> Path:
    """As data pack writes it: two training shards, a test and a pretraining one, tables beside them, an index."""
    place = tmp_path / "packed"
    listed = []
    for number, (file, labels) in enumerate(
        (("train-000000", (1, 0)), ("train-000001", (1,)), ("test-000000", (0, 1)), ("pretrain-000000", (None, None)))
    ):
        images = [(shards.encoded(10 * number + i, (20 + i, 30)), label) for i, label in enumerate(labels)]
        path = shards.tar(place / f"{file}.tar", shards.tar_members(images))
        content, rows = path.read_bytes(), []
        for i, (image, label) in enumerate(images):
            rows.append([f"{i:04d}", content.index(image), len(image), -1 if label is None else label, 20 + i, 30])
        path.with_suffix(".json").write_text(json.dumps({"format": 1, "bytes": len(content), "samples": rows}))
        split = file.split("-")[0]
        listed.append({"file": path.name, "split": split, "samples": len(rows), "bytes": len(content), "sha256": "00"})
    index = {"format": 1, "name": "pets", "classes": ["cat", "dog"], "shards": listed}
    (place / "index.json").write_text(json.dumps(index))
    return place


def test_a_packed_set_needs_its_folder_alone(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = tar_samples._members
    monkeypatch.setattr(tar_samples, "_members", lambda path: read.append(path) or original(path))
    by_tables = WebDatasetConfig(folder=packed).load()
    assert read == []
    assert (by_tables.name, by_tables.classes) == ("pets", ("cat", "dog"))
    assert by_tables.train.labels.tolist() == [1, 0, 1]
    assert by_tables.pretraining_images.labels.tolist() == [-1, -1]
    with pytest.raises(SourceError, match="no member is an image"):  # the tables know of the default suffixes alone
        WebDatasetConfig(folder=packed, image_suffixes=("gif",)).load()
    read.clear()
    for path in packed.glob("*-*.json"):
        path.unlink()
    by_headers = WebDatasetConfig(folder=packed).load()
    assert len(read) == 4
    for split in ("train", "test", "pretraining_images"):
        one, other = getattr(by_tables, split), getattr(by_headers, split)
        assert one.labels.tolist() == other.labels.tolist()
        assert one.sizes_HW.tolist() == other.sizes_HW.tolist()
        assert [one.stored_bytes(i) for i in range(len(one))] == [other.stored_bytes(i) for i in range(len(one))]
    assert WebDatasetConfig(folder=packed, classes=("dog", "cat")).load().train.labels.tolist() == [0, 1, 0]
    assert WebDatasetConfig(folder=packed, train="train-*.tar").load().pretrain is None
    chosen = WebDatasetConfig(folder=packed, pretrain="train-000001.tar").load()
    assert (chosen.classes, len(chosen.pretraining_images)) == (("cat", "dog"), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 5, "samples": [["0000", 0, 10, 1, 99, 30]]},
        {"format": 2},
        {"samples": [["0000", 0, 10**9, 1, 20, 30]]},
        {"samples": [["0000", 0, 10, 1, 0, 30]]},
        {"samples": [[1, 0, 10, 1, 20, 30]]},
        {"samples": [["0000", 0, 10]]},
        {"samples": "x"},
    ],
)
def test_a_table_that_does_not_fit_its_shard_is_not_used(change: dict[str, object], packed: Path) -> None:
    right = WebDatasetConfig(folder=packed).load()
    path = packed / "train-000000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found = WebDatasetConfig(folder=packed).load()
    assert np.array_equal(found.train.sizes_HW, right.train.sizes_HW)
    assert [found.train.stored_bytes(i) for i in range(3)] == [right.train.stored_bytes(i) for i in range(3)]


def test_shards_that_are_not_as_the_index_says_are_named_before_any_is_read(packed: Path) -> None:
    (packed / "train-000001.tar").unlink()
    with (packed / "test-000000.tar").open("ab") as file:
        file.write(b"more")
    message = (
        r"index\.json: 2 of its 4 shards are not as it says: train-000001\.tar \(missing\), "
        r"test-000000\.tar \(\d+ bytes instead of \d+\); put them back, or pack again"
    )
    (packed / "train-000000.json").write_text("[")  # would be read first
    with pytest.raises(SourceError, match=message):
        WebDatasetConfig(folder=packed).load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"this is no index of packed shards of format 1"),
        ({"classes": [1]}, r"this is no index"),
        ({"shards": [{"file": "x.tar"}]}, r"this is no index"),
        ({"shards": [{"file": "x.tar", "split": "extra", "bytes": 1}]}, r"this is no index"),
        ({"shards": []}, r"the index has no shard of split train"),
    ],
)
def test_mistakes_in_an_index_are_named(change: dict[str, object], message: str, packed: Path) -> None:
    path = packed / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SourceError, match=rf"index\.json: {message}"):
        WebDatasetConfig(folder=packed).load()


def test_a_label_beyond_the_indexs_classes_is_named(packed: Path) -> None:
    path = packed / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": ["cat"]}))
    with pytest.raises(
        SourceError, match=r"label 1, which is no place in the data set's own list of classes, which has 1"
    ):
        WebDatasetConfig(folder=packed).load()


def test_packing_that_has_not_finished_is_said(packed: Path) -> None:
    (packed / "index.json").unlink()
    (packed / "pack.json").write_text("{}")
    with pytest.raises(SourceError, match=r"index\.json: the index is missing, so packing has not finished"):
        WebDatasetConfig(folder=packed).load()
