"""What a source says of the images that it leaves out."""

import logging
from pathlib import Path

from issl_engine.sources.base import CorruptFile, SourceError

_log = logging.getLogger("issl_engine")

NAMED_AT_MOST = 10
"""Corrupt images that a message names."""


def report_corrupt(folder: Path, corrupt: tuple[CorruptFile, ...], *, allowed: int, what: str) -> None:
    """Warns of corrupt images; more than ``allowed`` raise SourceError. ``what`` is the plural that messages use."""
    named = "; ".join(f"{file.path} ({file.reason})" for file in corrupt[:NAMED_AT_MOST])
    if len(corrupt) > NAMED_AT_MOST:
        named += f" and {len(corrupt) - NAMED_AT_MOST} more"
    if len(corrupt) > allowed:
        raise SourceError(
            f"{folder}: {len(corrupt)} {what} cannot be read, more than source.max_corrupt_files ({allowed}); "
            f"mend or remove {named}"
        )
    if corrupt:
        _log.warning("%s: left out %d %s that cannot be read: %s", folder, len(corrupt), what, named)
