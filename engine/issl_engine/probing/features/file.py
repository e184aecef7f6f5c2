"""One file of features: a header, then the rows as they are in memory, written row by row and mapped when read.

Bytes 0 to 4095: SHA-256 of what follows in the header, in hexadecimal; a line of JSON; spaces. From 4096 on: n rows of
d little-endian numbers. The JSON says how many, of which type, their CRC-32, and what they are features of.

Letters: N images, D width of the representation; b images of a batch.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.whole_file import sync

FORMAT = 1
HEADER_BYTES = 4096
READ_BYTES = 2**24
StoredType = Literal["float32", "float16"]


class DamagedFileError(Exception):
    """A file that is not what was once written; its message says how that shows."""


def write_features(
    path: Path, batches: Iterable[Tensor], *, count: int, stored: StoredType, key: dict[str, Any]
) -> None:
    """Writes the rows (float32 [b, d], ``count`` in all) as they come, and gives the file its name when all are on the
    disk; whatever happens before, there is no file of that name.

    Raises Mistake where the disk has too little room or a number is too large for float16, OSError, and what
    ``batches`` raises.
    """
    with _own_partial(path) as file:
        file.seek(HEADER_BYTES)
        rows, dim, checksum = 0, 0, 0
        for z_bD in batches:
            if not rows:
                dim = z_bD.shape[1]
                _check_room(path.parent, count * dim * np.dtype(stored).itemsize)
            content = _to_bytes(z_bD, stored)
            file.write(content)
            checksum = zlib.crc32(content, checksum)
            rows += len(z_bD)
        assert rows == count, f"{rows} rows came of {count}"
        header = {"format": FORMAT, "rows": rows, "dim": dim, "dtype": stored, "crc32": checksum, "key": key}
        file.seek(0)
        file.write(_header_bytes(header))
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(path)
    sync(path.parent)


def read_features(path: Path) -> Tensor:
    """[n, d], mapped from the file to be read only: rows come from the disk when they are used, and the system takes
    their memory back when it is short. Writing to the tensor ends the process.

    All rows are read once, for their checksum. Raises DamagedFileError, and FileNotFoundError.
    """
    with path.open("rb") as file:
        header = _read_header(file.read(HEADER_BYTES))
        rows, dim, dtype = header["rows"], header["dim"], np.dtype(header["dtype"])
        expected = HEADER_BYTES + rows * dim * dtype.itemsize
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            raise DamagedFileError(f"it has {size} bytes, and its header says {expected}")
        checksum = 0
        while content := file.read(READ_BYTES):
            checksum = zlib.crc32(content, checksum)
        if checksum != header["crc32"]:
            raise DamagedFileError("the checksum of its rows is another than when they were written")
        mapped = np.memmap(file, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(rows, dim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is said above
        return torch.from_numpy(mapped)


def _to_bytes(z_bD: Tensor, stored: StoredType) -> memoryview:
    z_bD = z_bD.contiguous()
    if stored == "float16":
        z_bD = z_bD.half()
        if not z_bD.isfinite().all():
            raise Mistake(
                "a feature is too large for float16 (its largest number is 65504), or is NaN or infinite; keep "
                "features as float32"
            )
    return z_bD.numpy().data.cast("B")


def _header_bytes(header: dict[str, Any]) -> bytes:
    body = json.dumps(header).encode().ljust(HEADER_BYTES - 66) + b"\n"
    assert len(body) == HEADER_BYTES - 65, "the header is too long"
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _read_header(content: bytes) -> dict[str, Any]:
    digest, _, body = content.partition(b"\n")
    if len(content) != HEADER_BYTES or hashlib.sha256(body).hexdigest().encode() != digest:
        raise DamagedFileError("its header is damaged")
    header: dict[str, Any] = json.loads(body)
    if header["format"] != FORMAT:
        raise DamagedFileError(f"it is of format {header['format']}, and this version reads format {FORMAT}")
    return header


def _check_room(folder: Path, wanted_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted_bytes > free:
        raise Mistake(
            f"{folder}: the features need {wanted_bytes / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; "
            "make room, set ISSL_ENGINE_CACHE to another disk, or go without (--no-cache)"
        )


@contextlib.contextmanager
def _own_partial(path: Path) -> Iterator[IO[bytes]]:
    """A file of this process beside ``path``, gone afterwards unless it was renamed; those of dead processes go too.

    A writer holds a lock on its file, which ends with the process however that ends.
    """
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        with contextlib.suppress(OSError), stale.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield file
        finally:
            partial.unlink(missing_ok=True)
