"""A Parquet file as a table: opened, its columns, the class names that its metadata give."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from issl_engine.sources.base import SourceError

READ_BYTES = 2**20
"""Bytes of a column that are read at a time, so that a row group of any size is streamed."""
SHOWN_AT_MOST = 20
"""Columns that a message lists."""


@contextmanager
def open_parquet(path: Path, *, instead: str = "") -> Iterator[Any]:
    """A pyarrow ParquetFile. Raises SourceError for what pyarrow cannot read, here or inside the block, and without
    pyarrow; that message ends with ``instead``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(
            f"{path}: reading Parquet files needs pyarrow; install it with pip install 'issl-engine[parquet]'{instead}"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise SourceError(f"{path}: this Parquet file cannot be read ({why}); fetch or write it again") from error


def check_column(path: Path, names: Sequence[str], column: str, key: str) -> None:
    """Raises SourceError that lists the columns that there are, ``names``, and the key that names another."""
    if column not in names:
        there = ", ".join(names[:SHOWN_AT_MOST]) or "none"
        raise SourceError(f"{path}: there is no column '{column}' (there are: {there}); name it in source.{key}")


def class_names(schema: Any, column: str) -> tuple[str, ...] | None:
    """As Hugging Face's datasets note them in the file's metadata, or None."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        names = noted["info"]["features"][column]["names"]
    except (LookupError, ValueError, TypeError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
