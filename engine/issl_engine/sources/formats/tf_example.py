"""The protocol buffer tf.train.Example, read as far as needed to find where features lie; long values are passed over.

Example is {1: Features}, Features {1: map entry}*, a map entry {1: name, 2: Feature}, Feature {1: bytes, 2: floats,
3: integers}, each a list {1: value}*, where numbers may be packed into one field.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

BLOCK_BYTES = 4096
VARINT, EIGHT_BYTES, LENGTH_FIRST, FOUR_BYTES = 0, 1, 2, 5
"""How a field's value is written."""
VARINT_BYTES_AT_MOST = 10


class ByteWindow:
    """Bytes of an open file by position; what is near the last place read is at hand."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._block, self._first = b"", 0

    def read(self, place: int, count: int) -> bytes:
        """Fewer at the end of the file."""
        offset = place - self._first
        if offset < 0 or offset + count > len(self._block):
            self._block, self._first = os.pread(self._descriptor, max(count, BLOCK_BYTES), place), place
            offset = 0
        return self._block[offset : offset + count]


class Value(NamedTuple):
    """A field of a message: its value if a varint, else where its bytes lie."""

    number: int
    kind: int
    varint: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Feature:
    """``ranges``: (start, length) of each byte string in the file; ``integers``: each int64."""

    ranges: list[tuple[int, int]]
    integers: list[int]


def find_features(window: ByteWindow, start: int, length: int) -> dict[str, Feature]:
    """All features of the Example in these bytes. Raises ValueError for what is none."""
    found = {}
    for features in _fields(window, start, start + length):
        if (features.number, features.kind) != (1, LENGTH_FIRST):
            continue
        for entry in _fields(window, features.start, features.start + features.length):
            if (entry.number, entry.kind) != (1, LENGTH_FIRST):
                continue
            parts = {part.number: part for part in _fields(window, entry.start, entry.start + entry.length)}
            if 1 in parts and 2 in parts:
                found[window.read(parts[1].start, parts[1].length).decode()] = _feature(window, parts[2])
    return found


def _feature(window: ByteWindow, message: Value) -> Feature:
    feature = Feature(ranges=[], integers=[])
    for kind in _fields(window, message.start, message.start + message.length):
        if kind.number not in (1, 3) or kind.kind != LENGTH_FIRST:
            continue
        for value in _fields(window, kind.start, kind.start + kind.length):
            if kind.number == 1:
                feature.ranges.append((value.start, value.length))
            elif value.kind == VARINT:
                feature.integers.append(_signed(value.varint))
            else:
                place, end = value.start, value.start + value.length
                while place < end:
                    number, place = _varint(window, place, end)
                    feature.integers.append(_signed(number))
    return feature


def _fields(window: ByteWindow, place: int, end: int) -> Iterator[Value]:
    while place < end:
        tag, place = _varint(window, place, end)
        number, kind, varint, length = tag >> 3, tag & 7, 0, 0
        if kind == VARINT:
            varint, place = _varint(window, place, end)
        elif kind == LENGTH_FIRST:
            length, place = _varint(window, place, end)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        if number == 0 or place + length > end:
            raise ValueError("a field that is longer than what holds it" if number else "a field without number")
        yield Value(number, kind, varint, place, length)
        place += length


def _varint(window: ByteWindow, place: int, end: int) -> tuple[int, int]:
    """A varint that begins at ``place``, and the place behind it. Raises ValueError where it does not end."""
    value = 0
    content = window.read(place, min(VARINT_BYTES_AT_MOST, end - place))
    for index, byte in enumerate(content):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    raise ValueError("a number without end")


def _signed(value: int) -> int:
    """Two's complement of 64 bits, as a Python int."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
