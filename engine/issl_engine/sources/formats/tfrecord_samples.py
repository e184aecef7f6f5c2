"""What a TFRecord file holds: records of a length, its checksum, the data, their checksum; the data an Example."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.crc32c import masked_crc32c
from issl_engine.sources.formats.sample import Sample, label_text
from issl_engine.sources.formats.tf_example import ByteWindow, Feature, find_features

LENGTH = struct.Struct("<QI")
"""A record's length in bytes and the masked CRC-32C of the eight bytes that say so."""
CHECKSUM_BYTES = 4
PACKED = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}
"""How compressed files begin."""
SHOWN_AT_MOST = 20


@dataclass(frozen=True, kw_only=True)
class TFRecordReader:
    """Names of features; ``label_offset`` is subtracted from labels that are numbers."""

    image_feature: str
    label_feature: str
    label_offset: int
    class_feature: str | None

    def read(self, path: Path) -> tuple[Path, list[Sample]]:
        """One sample per record. Raises SourceError for what is no whole TFRecord file of Examples.

        The checksums of the data are not compared: that would read all of them.
        """
        path = path.absolute()
        samples, names = [], dict[str, None]()
        with open(path, "rb", buffering=0) as file:
            window = ByteWindow(file.fileno())
            for number, (start, length) in enumerate(_records(path, window)):
                try:
                    features = find_features(window, start, length)
                except ValueError as error:
                    raise SourceError(
                        f"{path}: record {number} at byte {start} is no tf.train.Example ({error}); fetch or write the "
                        "file again"
                    ) from error
                names.update(dict.fromkeys(features))
                samples.append(self._sample(path, window, number, features))
        for key, name in (("image_feature", self.image_feature), ("class_feature", self.class_feature)):
            if name is not None and name not in names:
                there = ", ".join(sorted(names)[:SHOWN_AT_MOST]) or "none"
                raise SourceError(
                    f"{path}: no record has a feature '{name}' (there are: {there}); correct source.{key}"
                )
        return path, samples

    def _sample(self, path: Path, window: ByteWindow, number: int, features: dict[str, Feature]) -> Sample:
        name = f"record {number}"
        label, title = self._label(path, window, name, features), ""
        if self.class_feature is not None and self.class_feature in features:
            title = _text(path, window, name, features[self.class_feature])
        if self.image_feature not in features:
            return Sample(name=name, label=label, title=title, reason=f"it has no feature '{self.image_feature}'")
        ranges = features[self.image_feature].ranges
        if len(ranges) != 1:
            reason = f"its feature '{self.image_feature}' holds {len(ranges)} byte strings and not one"
            return Sample(name=name, label=label, title=title, reason=reason)
        start, length = ranges[0]
        return Sample(name=name, start=start, length=length, label=label, title=title)

    def _label(self, path: Path, window: ByteWindow, name: str, features: dict[str, Feature]) -> str | None:
        feature = features.get(self.label_feature)
        if feature is None:
            return None
        if len(feature.integers) > 1 or len(feature.ranges) > 1:
            raise SourceError(
                f"{path}: {name} has several values in feature '{self.label_feature}'; name the feature of one label "
                "in source.label_feature"
            )
        if feature.ranges:
            return label_text(_text(path, window, name, feature))
        if not feature.integers or feature.integers[0] < 0:
            return None
        if feature.integers[0] < self.label_offset:
            raise SourceError(
                f"{path}: {name} has label {feature.integers[0]}, but labels begin at source.label_offset, which is "
                f"{self.label_offset}; correct it"
            )
        return str(feature.integers[0] - self.label_offset)


def _text(path: Path, window: ByteWindow, name: str, feature: Feature) -> str:
    """Empty for a feature without byte strings."""
    if not feature.ranges:
        return ""
    try:
        return window.read(*feature.ranges[0]).decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: the class's name in {name} is no UTF-8 ({error.reason}); write it again") from error


def _records(path: Path, window: ByteWindow) -> Iterator[tuple[int, int]]:
    """(start, length) of each record's data."""
    size = path.stat().st_size
    if packing := PACKED.get(window.read(0, 2)):
        raise SourceError(f"{path}: the file is compressed ({packing}), so its images cannot be read alone; unpack it")
    if size == 0:
        raise SourceError(f"{path}: the file is empty; fetch or write it again")
    place, number = 0, 0
    while place < size:
        header = window.read(place, LENGTH.size).ljust(LENGTH.size, b"\0")
        length, checksum = LENGTH.unpack(header)
        is_whole = place + LENGTH.size <= size
        if is_whole and checksum != masked_crc32c(header[:8]):
            what = "this is no TFRecord file" if number == 0 else f"record {number} at byte {place} is damaged"
            raise SourceError(f"{path}: {what} (the checksum of the length is wrong); fetch or write the file again")
        if not is_whole or place + LENGTH.size + length + CHECKSUM_BYTES > size:
            raise SourceError(f"{path}: the file ends before record {number} does; fetch or write the file again")
        yield place + LENGTH.size, length
        place += LENGTH.size + length + CHECKSUM_BYTES
        number += 1
