"""One run a folder at a time: a lock on RUN/.lock that names its holder."""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from issl_engine.launch.rank_environment import host_name
from issl_engine.layout import RECORD
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:  # a supervisor asks for the lock without loading torch
    from issl_engine.ranks import Ranks

_log = logging.getLogger("issl_engine")

Resume = Literal["auto", "never"]

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What a file system that cannot lock files answers."""


@contextmanager
def locked_folder(out: Path, ranks: "Ranks", resume: Resume) -> Iterator[None]:
    """Rank 0 makes and locks the folder; every rank must enter. Raises the same Mistake on all of them."""
    handle: int | None = None
    refusal: str | None = None
    if ranks.is_first:
        try:
            _check_resume(out, resume)
            handle = _lock(out, keep=True)
        except Mistake as error:
            refusal = str(error)
    refusal = ranks.from_first(refusal)
    if refusal is not None:
        raise Mistake(refusal)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def check_folder_is_free(out: Path, resume: Resume) -> None:
    """The same refusals before any rank is started; makes and keeps nothing. Raises Mistake."""
    _check_resume(out, resume)
    if (out / ".lock").exists():
        os.close(_lock(out, keep=False))


def _check_resume(out: Path, resume: Resume) -> None:
    if resume == "never" and (out / RECORD).exists():
        raise Mistake(f"{out}: a run is here already; choose another --out, or --resume auto to go on with it")


def _lock(out: Path, *, keep: bool) -> int:
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise Mistake(f"{out}: the run folder cannot be written ({error.strerror}); choose another --out") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(handle)
        os.close(handle)
        raise Mistake(
            f"{out}: another run is at work in this folder{holder}; wait for it or choose another --out"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            os.close(handle)
            raise
        if keep:
            _log.warning(
                "%s: this file system cannot lock files (%s), so nothing keeps a second run out of the folder: start "
                "none there", out, error.strerror,
            )  # fmt: skip
    if keep:
        _sign(handle)
    return handle


def _sign(handle: int) -> None:
    record = {"host": host_name(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(record).encode(), 0)


def _holder(handle: int) -> str:
    """How the holder signed: '' for one that has not yet."""
    try:
        record = json.loads(os.pread(handle, 1000, 0))
        return f" (process {record['pid']} on {record['host']}, since {record['since']})"
    except (ValueError, KeyError, TypeError):
        return ""
