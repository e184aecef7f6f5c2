"""Which checkpoints are whole: every file there, of its size, with its checksum."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from issl_engine.training.checkpoints.digests import sha256_of
from issl_engine.training.checkpoints.manifest import (
    CheckpointError,
    Manifest,
    OtherFormatError,
    checkpoint_folders,
    read_manifest,
)

if TYPE_CHECKING:
    from issl_engine.ranks import Ranks

_log = logging.getLogger("issl_engine")


def check_sizes(checkpoint: Path) -> Manifest:
    """Reads the manifest and looks for every file and its size, without opening it. Raises CheckpointError."""
    manifest = read_manifest(checkpoint)
    for name, record in manifest.files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint}: the checkpoint lacks {name}")
        size = path.stat().st_size
        if size != record.bytes:
            raise CheckpointError(
                f"{checkpoint}: {name} is damaged (it has {size} bytes, and the manifest says {record.bytes})"
            )
    return manifest


def verify_checkpoint(checkpoint: Path, *, only: Collection[str] | None = None) -> Manifest:
    """``check_sizes``, and the checksums of all files, or of ``only`` these; a file is read once per process.

    Raises CheckpointError.
    """
    manifest = check_sizes(checkpoint)
    for name, record in manifest.files.items():
        if only is not None and name not in only:
            continue
        try:
            digest = sha256_of(checkpoint / name)
        except OSError as error:
            raise CheckpointError(f"{checkpoint}: {name} cannot be read ({error.strerror or error})") from error
        if digest != record.sha256:
            raise CheckpointError(f"{checkpoint}: {name} is damaged (its checksum differs from the manifest's)")
    return manifest


def latest_checkpoint(folder: Path, *, only: Collection[str] | None = None) -> Path | None:
    """The newest checkpoint that is whole, or None. A torn one is named in a warning, and the one before it taken.

    ``only``: the files that will be read; of the others the sizes are enough.
    Raises CheckpointError when checkpoints are there but none of them is whole, OtherFormatError when the newest that
    can be read is of another version.
    """
    candidates = checkpoint_folders(folder)[::-1]
    for candidate in candidates:
        try:
            verify_checkpoint(candidate, only=only)
        except OtherFormatError:
            raise
        except CheckpointError as error:
            _log.warning("%s; trying the checkpoint before it", error)
            continue
        return candidate
    if candidates:
        raise CheckpointError(
            f"{folder}: none of its {len(candidates)} checkpoints is whole; move the folder away to begin anew"
        )
    return None


def agreed_latest_checkpoint(folder: Path, ranks: "Ranks") -> Path | None:
    """``latest_checkpoint``, looked for and read by the first rank alone; every rank calls it and gets the same.

    Raises CheckpointError on all ranks.
    """
    name, reason = None, None
    if ranks.is_first:
        try:
            found = latest_checkpoint(folder)
            name = None if found is None else found.name
        except CheckpointError as error:
            reason = str(error)
    name, reason = ranks.from_first((name, reason))
    if reason is not None:
        raise CheckpointError(reason)
    return None if name is None else folder / name
