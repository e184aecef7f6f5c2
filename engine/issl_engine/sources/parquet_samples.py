"""What a Parquet file of images holds. Its pages are compressed, so the images are copied once into the cache."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from issl_engine.cache import cache_folder
from issl_engine.sources.base import SourceError
from issl_engine.sources.byte_ranges import file_stamp
from issl_engine.sources.shard import Sample
from issl_engine.sources.shard_labels import label_text

_log = logging.getLogger("issl_engine")

ROWS_AT_ONCE = 64
"""Images held in memory."""
READ_BYTES = 2**20
"""Of a column at a time, so that a row group of any size is streamed."""
SHOWN_AT_MOST = 20


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """Names of columns. The label's may be missing in a file: its images have no labels then."""

    image_column: str
    label_column: str

    def read(self, path: Path) -> tuple[Path, list[Sample]]:
        """One sample a row; the file is the cache's copy of the images, one behind the other. Raises SourceError."""
        target = _place(path, self.image_column)
        _log.info("%s: copying its images into %s, once", path, target)
        with _partial_file(target, path) as file:
            return target, [self._sample(path, number, row, file) for number, row in enumerate(self._rows(path))]

    def _rows(self, path: Path) -> Iterator[tuple[Any, Any]]:
        """(image, label) of each."""
        with open_parquet(path) as table:
            check_column(path, table.schema_arrow, self.image_column, "image_column")
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


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A pyarrow ParquetFile. Raises SourceError without pyarrow, and for what it cannot read, here or inside."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(
            f"{path}: reading Parquet files needs pyarrow; install it with pip install 'issl-engine[parquet]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise SourceError(f"{path}: this Parquet file cannot be read ({why}); fetch or write it again") from error


def check_column(path: Path, schema: Any, column: str, key: str) -> None:
    """Raises SourceError that lists the columns that there are."""
    if column not in schema.names:
        there = ", ".join(schema.names[:SHOWN_AT_MOST]) or "none"
        raise SourceError(f"{path}: there is no column '{column}' (there are: {there}); name it in source.{key}")


def class_names(schema: Any, column: str) -> tuple[str, ...] | None:
    """As Hugging Face's datasets note them in the file's metadata, or None."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        names = noted["info"]["features"][column]["names"]
    except (LookupError, ValueError, TypeError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


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
def _partial_file(target: Path, path: Path) -> Iterator[IO[bytes]]:
    """Takes its place when it is complete, and else vanishes."""
    partial = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{target.stem}-", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(partial, target)
    except OSError as error:  # such as a full disk
        raise SourceError(
            f"{target}: cannot be written ({error.strerror}), and the images of {path} must be copied; set "
            "ISSL_ENGINE_CACHE to a folder with room for them"
        ) from error
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)
