"""A user's own list of classes: source.classes."""

from collections import Counter
from pathlib import Path

from issl_engine.sources.base import SourceError


def given_classes(classes: tuple[str, ...] | Path | None) -> tuple[str, ...] | None:
    """The names of source.classes, read from its file if it is one. Raises SourceError."""
    if classes is None:
        return None
    if isinstance(classes, Path):
        try:
            lines = classes.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"source.classes: {classes} cannot be read as text ({error}); name a file with one class a line"
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
