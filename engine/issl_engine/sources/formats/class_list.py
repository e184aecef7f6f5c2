"""Lists of classes: the user's own, source.classes, and those that archives of data sets hold."""

from collections import Counter
from pathlib import Path
from typing import Any

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.file_bytes import file_content


def given_classes(classes: tuple[str, ...] | Path | None) -> tuple[str, ...] | None:
    """The names of source.classes, read from its file if it is one. Raises SourceError."""
    if classes is None:
        return None
    if isinstance(classes, Path):
        try:
            lines = classes.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"source.classes: {classes} cannot be read as text ({error}); name a file with one class per line"
            ) from error
        place, names = f"source.classes: {classes}", tuple(line.strip() for line in lines if line.strip())
    else:
        place, names = "source.classes", classes
    if not names:
        raise SourceError(f"{place}: names no class; name some, or set source.classes to null")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{place}: class '{twice[0]}' is named twice; name it once")
    return names


def archive_classes(path: Path, home: str) -> tuple[str, ...]:
    """One class per line of a text file in Latin-1. Raises SourceError, which says that ``home`` has the archive."""
    lines = file_content(path).decode("latin1").splitlines()
    return checked_names(path, [line.strip() for line in lines if line.strip()], home)


def checked_names(path: Path, names: list[Any], home: str) -> tuple[str, ...]:
    """The names found in ``path``. Raises SourceError where there are none, or they are no text."""
    if not names or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{path}: there are no class names in it; fetch the archive again from {home}")
    return tuple(names)
