"""A table of images: path, label and split of each, in a CSV or Parquet file."""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issl_engine.sources.base import SourceError, listed
from issl_engine.sources.formats.parquet_table import check_column, open_parquet

NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class ManifestColumns:
    """Which columns to read."""

    path: str
    label: str
    split: str


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """``place`` is how messages name the row: a CSV's line, a Parquet file's row."""

    place: str
    path: str
    label: str
    split: str


def read_manifest(file: Path, columns: ManifestColumns) -> list[ManifestRow]:
    """All rows, in order. Raises SourceError for what is no such table, and for a path that is listed twice."""
    if not file.is_file():
        raise SourceError(f"source.manifest: {file} is not a file; name a CSV or Parquet file")
    suffix = file.suffix.lower()
    if suffix == ".csv":
        rows = list(_csv_rows(file, columns))
    elif suffix == ".parquet":
        rows = list(_parquet_rows(file, columns))
    else:
        raise SourceError(f"source.manifest: {file} must end in .csv or .parquet")
    if not rows:
        raise SourceError(f"{file}: the manifest has no row")
    _check_paths_differ(file, rows)
    return rows


def classes_of(file: Path, rows: list[ManifestRow]) -> tuple[str, ...]:
    """The labels in use: by number where all are whole numbers, else by name."""
    labels = {row.label for row in rows}
    if not all(_is_number(label) for label in labels):
        return tuple(sorted(labels))
    values = Counter(int(label) for label in labels)
    twice = [value for value, count in values.items() if count > 1]
    if twice:
        raise SourceError(f"{file}: label {twice[0]} is written in several ways, such as 1 and 01; write it in one")
    return tuple(sorted(labels, key=int))


def labels_of(file: Path, rows: list[ManifestRow], classes: tuple[str, ...], *, given: bool) -> list[int | None]:
    """Each row's place in ``classes``; None for a class that the user's own list (``given``) leaves out.

    With a given list, labels may be whole numbers, each a place in it, where no class is named so.
    """
    places = {name: place for place, name in enumerate(classes)}
    numbers = given and all(_is_number(row.label) for row in rows) and not any(_is_number(name) for name in classes)
    if not numbers:
        return [places.get(row.label) for row in rows]
    for row in rows:
        if not 0 <= int(row.label) < len(classes):
            raise SourceError(
                f"{file}, {row.place}: label {row.label} is no place in source.classes, which has {len(classes)} "
                f"(0 to {len(classes) - 1}); correct one of them"
            )
    return [int(row.label) for row in rows]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _csv_rows(file: Path, columns: ManifestColumns) -> Iterator[ManifestRow]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            _check_columns(file, columns, list(reader.fieldnames or []))
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row or None in row.values():
                    raise SourceError(
                        f"{file}, {place}: the row has not as many fields as the header "
                        f"({len(reader.fieldnames or [])}); put quotes around text that holds a comma"
                    )
                yield _row(file, place, row, columns)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{file}: this is no CSV file in UTF-8 ({error})") from error


def _parquet_rows(file: Path, columns: ManifestColumns) -> Iterator[ManifestRow]:
    with open_parquet(file, instead=", or write the manifest as CSV") as table:
        _check_columns(file, columns, table.schema_arrow.names)
        number = 0
        for batch in table.iter_batches(columns=[columns.path, columns.label, columns.split]):
            for row in batch.to_pylist():
                yield _row(file, f"row {number}", row, columns)
                number += 1


def _check_columns(file: Path, columns: ManifestColumns, found: list[str]) -> None:
    for key, name in (("path", columns.path), ("label", columns.label), ("split", columns.split)):
        check_column(file, found, name, f"{key}_column")


def _row(file: Path, place: str, row: dict[str, Any], columns: ManifestColumns) -> ManifestRow:
    values = {}
    for column in (columns.path, columns.label, columns.split):
        value = row[column]
        text = "" if value is None else str(value).strip()
        if not text:
            raise SourceError(f"{file}, {place}: column '{column}' is empty; fill it or remove the row")
        values[column] = text
    return ManifestRow(place=place, path=values[columns.path], label=values[columns.label], split=values[columns.split])


def _check_paths_differ(file: Path, rows: list[ManifestRow]) -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        places[os.path.normpath(row.path)].append(row.place)
    twice = [f"{path} ({', '.join(lines[:3])})" for path, lines in places.items() if len(lines) > 1]
    if twice:
        raise SourceError(
            f"{file}: {len(twice)} images are listed more than once: "
            f"{listed(twice, at_most=NAMED_AT_MOST, between='; ')}; leave one row for each"
        )
