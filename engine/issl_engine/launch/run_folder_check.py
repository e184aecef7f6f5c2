"""Whether all ranks write to the same run folder: rank 0 leaves a token, the others read it and leave theirs."""

import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from issl_engine.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """The run folder as one rank sees it. ``error`` is why it cannot be used, or None."""

    error: str | None
    free_bytes: int


def check_run_folder(out: Path, ranks: Ranks) -> FolderFacts:
    """Every rank must call it, after rank 0 has made the folder; it leaves nothing there. Never raises."""
    token_file = out / f".token_{ranks.from_first(secrets.token_hex(8))}"
    error = _attempt_to_write(token_file) if ranks.is_first else None
    first_can_write = ranks.from_first(error) is None  # else the others have nothing to look for
    if first_can_write and not ranks.is_first:
        if token_file.exists():
            own = token_file.with_name(f"{token_file.name}_rank{ranks.rank}")
            error = _attempt_to_write(own)
            with suppress(OSError):
                own.unlink()
        else:
            error = "it is not the folder that rank 0 writes to"
    free_bytes = shutil.disk_usage(out).free if first_can_write and error is None else 0
    ranks.barrier()
    if ranks.is_first and first_can_write:
        token_file.unlink()
    return FolderFacts(error=error, free_bytes=free_bytes)


def _attempt_to_write(path: Path) -> str | None:
    try:
        path.write_text("issl-engine checks that all ranks see this file\n", encoding="utf-8")
    except OSError as error:
        return f"it cannot be written ({error.strerror})"
    return None
