"""Reading a whole file of a source."""

from pathlib import Path

from issl_engine.sources.base import SourceError


def file_content(path: Path) -> bytes:
    """Raises SourceError that names ``path``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: the file cannot be read ({error.strerror}); change its permissions") from error
