"""Shards of every format, written independently of the code that reads them."""

import io
import json
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Images = Sequence[tuple[bytes, int | str | None]]
"""(encoded image, label)."""


def encoded(seed: int, size_HW: tuple[int, int] = (20, 30), kind: str = "JPEG", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_HW, 3), dtype=np.uint8)
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return stream.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_members(images: Images) -> list[tuple[str, bytes]]:
    members = []
    for number, (content, label) in enumerate(images):
        members.append((f"{number:04d}.{'png' if b'PNG' in content[:4] else 'jpg'}", content))
        if label is not None:
            members.append((f"{number:04d}.cls", str(label).encode()))
    return members


def varint(value: int) -> bytes:
    value %= 2**64
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value % 0x80 + 0x80]), value // 0x80
    return found + bytes([value])


def part(number: int, content: bytes) -> bytes:
    """A protocol buffer's field whose length comes first."""
    return varint(number * 8 + 2) + varint(len(content)) + content


def example(features: dict[str, bytes | int | list[int] | float]) -> bytes:
    """A tf.train.Example; a list of integers is packed, one integer is not."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = part(1, part(1, value))
        elif isinstance(value, float):
            feature = part(2, part(1, struct.pack("<f", value)))
        elif isinstance(value, list):
            feature = part(3, part(1, b"".join(map(varint, value))))
        else:
            feature = part(3, varint(8) + varint(value))
        entries += part(1, part(1, name.encode()) + part(2, feature))
    return part(1, entries)


def masked(content: bytes) -> int:
    """CRC-32C bit by bit, turned right by 15 bits and moved."""
    value = 2**32 - 1
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value // 2 ^ 0x82F63B78 * (value % 2)
    value ^= 2**32 - 1
    return (value // 2**15 + value % 2**15 * 2**17 + 0xA282EAD8) % 2**32


def write_tfrecord(path: Path, examples: Sequence[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for content in examples:
            length = struct.pack("<Q", len(content))
            file.write(length + struct.pack("<I", masked(length)) + content + b"\0\0\0\0")
    return path


def as_examples(images: Images) -> list[bytes]:
    found = []
    for content, label in images:
        features: dict[str, bytes | int | list[int] | float] = {"image/height": 20, "image/weight": 0.5}
        features["image/encoded"] = content
        if label is not None:
            features["image/class/label"] = [label] if isinstance(label, int) else label.encode()
        found.append(example(features))
    return found


def write_parquet(path: Path, images: Images, names: Sequence[str] | None = None, plain: bool = False) -> Path:
    """In row groups of two; ``names`` are noted as Hugging Face's datasets do."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [content if plain else {"bytes": content, "path": "x.jpg"} for content, _ in images]
    table = arrow.table({"image": contents, "label": [label for _, label in images], "more": [0] * len(images)})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=2)
    return path


SUFFIX = {"webdataset": "tar", "tfrecord": "tfrecord", "parquet": "parquet"}


def write_shard(source: str, place: Path, images: Images) -> Path:
    """``place`` without suffix."""
    path = place.with_name(f"{place.name}.{SUFFIX[source]}")
    if source == "webdataset":
        return write_tar(path, tar_members(images))
    return write_tfrecord(path, as_examples(images)) if source == "tfrecord" else write_parquet(path, images)


class ShardWriters:
    """The functions above, for tests to take as one fixture."""

    encoded = staticmethod(encoded)
    tar = staticmethod(write_tar)
    tar_members = staticmethod(tar_members)
    example = staticmethod(example)
    tfrecord = staticmethod(write_tfrecord)
    as_examples = staticmethod(as_examples)
    parquet = staticmethod(write_parquet)
    shard: Callable[[str, Path, Images], Path] = staticmethod(write_shard)


@pytest.fixture
def shards(own_cache: Path) -> ShardWriters:
    """Writers of shards; the cache is a fresh one."""
    return ShardWriters()
