"""TFRecord files: framing, Examples of every kind, ImageNet's labels and names, and every mistake."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.crc32c import crc32c
from issl_engine.sources.tfrecord import TFRecordConfig


@pytest.fixture
def folder(shards: Any, tmp_path: Path) -> Path:
    """Named as ImageNet's files are; labels 0, 1, 0 and 1, 0."""
    place = tmp_path / "set"
    for name, seed, labels in (("train-00000-of-00001", 0, (0, 1, 0)), ("validation-00000-of-00001", 10, (1, 0))):
        images = [(shards.encoded(seed + number), label) for number, label in enumerate(labels)]
        shards.tfrecord(place / name, shards.as_examples(images))
    return place


def test_checksums_are_those_of_the_standard() -> None:
    """The check value of CRC-32C in RFC 3720 and in catalogues, and RFC 3720's 32 bytes of zeros."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize(
    "name",
    ["train.tfrecord", "train.tfrecords", "train.tfrec", "pets-train.tfrecord-00000-of-00001", "train-00-of-01"],
)
def test_files_are_found_under_all_the_usual_names(name: str, folder: Path) -> None:
    (folder / "train-00000-of-00001").rename(folder / name)
    (folder / "train.tfrecord.idx").write_text("0 1")
    (folder / "train.json").write_text("{}")
    assert len(TFRecordConfig(folder=folder).load().train) == 3


def test_features_may_come_in_any_order_and_among_others(folder: Path, shards: Any) -> None:
    images = [shards.encoded(seed, (20, 30 + seed)) for seed in range(3)]
    examples = [
        shards.example({"image/encoded": images[0], "image/class/label": 1, "width": 30}),
        shards.example(
            {"boxes": list(range(-3, 3000)), "image/class/label": [0], "image/encoded": images[1], "x": 1.5}
        ),
        shards.example({"a": -(2**63), "image/class/label": [1], "other": images[0], "image/encoded": images[2]}),
    ]
    examples[0] += b"\x15four" + b"\x19 eight  "  # fields of another version, of four and of eight bytes
    shards.tfrecord(folder / "train-00000-of-00001", examples)
    train = TFRecordConfig(folder=folder).load().train
    assert [train.stored_bytes(i) for i in range(3)] == images
    assert train.labels.tolist() == [1, 0, 1]
    assert train.sizes_HW.tolist() == [[20, 30], [20, 31], [20, 32]]
    assert train.describe(2) == f"{folder / 'train-00000-of-00001'}: record 2"


def imagenet(shards: Any, folder: Path, titles: tuple[str, ...] = ("n01", "n02"), images: str = "image") -> None:
    """Labels from 1 on, names and other keys."""
    for name, seed in (("train-00000-of-00001", 20), ("validation-00000-of-00001", 30)):
        examples = [
            shards.example({"id": label + 1, images: shards.encoded(seed + label), "synset": title.encode()})
            for label, title in enumerate(titles)
        ]
        shards.tfrecord(folder / name, examples)


def test_labels_from_1_on_and_names_of_classes(folder: Path, shards: Any) -> None:
    imagenet(shards, folder)
    plain = TFRecordConfig(folder=folder, image_feature="image", label_feature="id")
    assert (plain.load().classes, plain.load().train.labels.tolist()) == (("1", "2"), [0, 1])
    moved = plain.model_copy(update={"label_offset": 1})
    assert moved.load().classes == ("0", "1")
    assert moved.model_copy(update={"classes": ("cat", "dog")}).load().classes == ("cat", "dog")
    named = moved.model_copy(update={"class_feature": "synset"})
    assert named.load().classes == ("n01", "n02")
    assert named.model_copy(update={"classes": ("n02", "n01")}).load().train.labels.tolist() == [1, 0]
    by_name = plain.model_copy(update={"label_feature": "synset"})
    assert by_name.load().classes == ("n01", "n02")
    with pytest.raises(
        SourceError, match=r"record 0 has label 1, but labels begin at source\.label_offset, which is 2"
    ):
        plain.model_copy(update={"label_offset": 2}).load()


def test_two_classes_of_one_name_are_distinguished(folder: Path, shards: Any) -> None:
    """As ImageNet's two cranes."""
    imagenet(shards, folder, ("crane", "dog", "crane"))
    config = TFRecordConfig(
        folder=folder, image_feature="image", label_feature="id", label_offset=1, class_feature="synset"
    )
    assert config.load().classes == ("crane (0)", "dog", "crane (2)")
    assert config.load().train.labels.tolist() == [0, 1, 2]


def test_one_label_of_two_names_is_an_error(folder: Path, shards: Any) -> None:
    imagenet(shards, folder)
    examples = [shards.example({"id": 1, "image": shards.encoded(40), "synset": b"n07"})]
    shards.tfrecord(folder / "validation-00000-of-00001", examples)
    with pytest.raises(
        SourceError, match=r"label 1 is called 'n07' here, but 'n01' in another file; give both one name"
    ):
        TFRecordConfig(folder=folder, image_feature="image", label_feature="id", class_feature="synset").load()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_feature": "image"}, r"no record has a feature 'image' \(there are: image/class/label, image/encoded,"),
        ({"class_feature": "name"}, r"no record has a feature 'name' \(there are: .*\); correct source\.class_feature"),
        ({"label_feature": "y"}, r"none of the 3 samples .* \(feature 'y'; name the feature .* source\.label_feature"),
    ],
)
def test_missing_features_are_named(keys: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(SourceError, match=message):
        TFRecordConfig(folder=folder, **keys).load()


def test_records_without_one_image_are_left_out(folder: Path, shards: Any) -> None:
    examples = shards.as_examples([(shards.encoded(60), 0), (shards.encoded(61), 1)])
    examples += [shards.example({"image/encoded": value, "image/class/label": 1}) for value in (3, 1.5)]
    examples.append(shards.example({"image/class/label": 1}))
    shards.tfrecord(folder / "train-00000-of-00001", examples)
    dataset = TFRecordConfig(folder=folder).load()
    assert len(dataset.train) == 2
    strings = "its feature 'image/encoded' holds 0 byte strings and not one"
    assert [found.reason for found in dataset.skipped] == [
        f"record 2: {strings}", f"record 3: {strings}", "record 4: it has no feature 'image/encoded'"
    ]  # fmt: skip


def test_a_label_of_several_values_is_an_error(folder: Path, shards: Any) -> None:
    examples = [shards.example({"image/encoded": shards.encoded(0), "image/class/label": [1, 2]})]
    shards.tfrecord(folder / "train-00000-of-00001", examples)
    with pytest.raises(SourceError, match=r"record 0 has several values in feature 'image/class/label'; name"):
        TFRecordConfig(folder=folder).load()


def second_record(content: bytes) -> int:
    return 16 + int.from_bytes(content[:8], "little")


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "the file is empty"),
        (lambda content: b"\x89PNG" * 20, r"this is no TFRecord file \(the checksum of the length is wrong\)"),
        (gzip.compress, r"the file is compressed \(GZIP\), so its images cannot be read alone; unpack it"),
        (zlib.compress, r"the file is compressed \(ZLIB\)"),
        (lambda content: flipped(content, second_record(content)), r"record 1 at byte \d+ is damaged"),
        (lambda content: content[: second_record(content) + 5], "the file ends before record 1 does"),
        (lambda content: content[: second_record(content) + 100], "the file ends before record 1 does"),
        (lambda content: content[: second_record(content) - 1], "the file ends before record 0 does"),
    ],
)
def test_a_damaged_file_is_named(damage: Callable[[bytes], bytes], message: str, folder: Path) -> None:
    path = folder / "train-00000-of-00001"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match=rf"train-00000-of-00001: {message}") as error:
        TFRecordConfig(folder=folder).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\x0a\x7f12", b"\x0b", b"\xff" * 12, b"\x02\x01x", b"\x0a\x04\x0a\x02\x0a\x09"])
def test_records_that_are_no_examples_are_named(content: bytes, folder: Path, shards: Any) -> None:
    shards.tfrecord(folder / "train-00000-of-00001", [content])
    with pytest.raises(SourceError, match=r"record 0 at byte 12 is no tf\.train\.Example \(.*\); fetch or write"):
        TFRecordConfig(folder=folder).load()


def test_names_that_are_no_text_are_named(folder: Path, shards: Any) -> None:
    examples = [shards.example({"image/encoded": shards.encoded(0), "image/class/label": b"\xff\xfe"})]
    shards.tfrecord(folder / "train-00000-of-00001", examples)
    with pytest.raises(SourceError, match=r"the class's name in record 0 is no UTF-8"):
        TFRecordConfig(folder=folder).load()


def test_a_complete_read_passes_over_the_images(folder: Path, shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a megabyte in one feature a few blocks are read."""
    from issl_engine.sources.formats import tf_example

    read: list[int] = []
    original = tf_example.os.pread
    monkeypatch.setattr(tf_example.os, "pread", lambda *all: (content := original(*all), read.append(len(content)))[0])
    big = shards.encoded(0, (600, 600), "PNG")
    examples = [shards.example({"image/encoded": big, "image/class/label": 0})]
    shards.tfrecord(folder / "train-00000-of-00001", [*examples, *shards.as_examples([(shards.encoded(9), 1)])])
    assert len(big) > 10**6
    assert len(TFRecordConfig(folder=folder).survey().train) == 2
    assert 0 < sum(read) < 10**5
