"""What a Parquet file of images holds. Its pages are compressed, so the images are copied once into the cache."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from issl_engine.cache import cache_folder
from issl_engine.sources.base import SourceError
from issl_engine.sources.byte_ranges import file_stamp
from issl_engine.sources.formats.new_file import new_file
from issl_engine.sources.formats.parquet_table import check_column, open_parquet
from issl_engine.sources.formats.sample import Sample, label_text

_log = logging.getLogger("issl_engine")

ROWS_AT_ONCE = 64
"""Rows, with their images, that are held in memory."""


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """Names of columns. The label's may be missing in a file: its images have no labels then."""

    image_column: str
    label_column: str

    def read(self, path: Path) -> tuple[Path, list[Sample]]:
        """One sample per row; the file is the cache's copy of the images, one behind the other. Raises SourceError."""
        target = _place(path, self.image_column)
        _log.info("%s: copying its images into %s, once", path, target)
        with _copy(target, path) as file:
            return target, [self._sample(path, number, row, file) for number, row in enumerate(self._rows(path))]

    def _rows(self, path: Path) -> Iterator[tuple[Any, Any]]:
        """(image, label) of each."""
        with open_parquet(path) as table:
            check_column(path, table.schema_arrow.names, self.image_column, "image_column")
            _check_holds_images(path, table.schema_arrow, self.image_column)
            labelled = self.label_column in table.schema_arrow.names
            columns = [self.image_column, self.label_column] if labelled else [self.image_column]
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns, use_threads=False):
                images = batch.column(self.image_column).to_pylist()
                labels = batch.column(self.label_column).to_pylist() if labelled else [None] * len(images)
                yield from zip(images, labels, strict=True)

    def _sample(self, path: Path, number: int, row: tuple[Any, Any], file: IO[bytes]) -> Sample:
        name = f"{path.name}, row {number}"
        try:
            label = label_text(row[1])
        except ValueError as error:
            raise SourceError(
                f"{path}: row {number} of column '{self.label_column}' is {error}; name another in source.label_column"
            ) from error
        content = row[0].get("bytes") if isinstance(row[0], dict) else row[0]
        if content is None:
            has_path = isinstance(row[0], dict) and row[0].get("path")
            reason = "the row has the image's path and not its bytes" if has_path else "the row has no image"
            return Sample(name=name, label=label, reason=reason)
        start = file.tell()
        file.write(content)
        return Sample(name=name, start=start, length=len(content), label=label)


def _check_holds_images(path: Path, schema: Any, column: str) -> None:
    import pyarrow.types as types

    kind = schema.field(column).type
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise SourceError(
            f"{path}: column '{column}' holds {kind}, but encoded images are binary, or a struct with a field bytes; "
            "name another in source.image_column"
        )


def _place(path: Path, column: str) -> Path:
    """Of the cache's copy of this state of the file."""
    state = f"{path.resolve()}:{column}:{file_stamp(str(path))}"
    return cache_folder() / "unpacked" / f"{path.stem}-{hashlib.sha256(state.encode()).hexdigest()[:16]}.bin"


@contextmanager
def _copy(target: Path, path: Path) -> Iterator[IO[bytes]]:
    """The cache's copy of the images of ``path``, to be written."""
    try:
        with new_file(target) as file:
            yield file
    except OSError as error:  # such as a full disk
        raise SourceError(
            f"{target}: cannot be written ({error.strerror}), and the images of {path} must be copied; set "
            "ISSL_ENGINE_CACHE to a folder with room for them"
        ) from error
