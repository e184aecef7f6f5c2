"""The IDX format of the MNIST family: a magic number, the sizes, then bytes; the file may be packed by gzip."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import SourceError

UNSIGNED_BYTE = 8


def idx_path(folder: Path, name: str) -> Path | None:
    """The file of this name in ``folder``, plain or packed (.gz); None where neither is.

    Some copies write train-images.idx3-ubyte for train-images-idx3-ubyte.
    """
    names = [f"{spelt}{suffix}" for spelt in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    return next((folder / each for each in names if (folder / each).is_file()), None)


def unpack(content: bytes, place: Path | str) -> bytes:
    """Bytes that are not gzip's are returned as they are."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SourceError(f"{place}: the file cannot be unpacked ({error}); fetch it again") from error


def parse_idx(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Unsigned bytes of any number of axes. Raises SourceError that names ``path``."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE:
        raise SourceError(f"{path}: this is no IDX file of unsigned bytes (it begins with {content[:4].hex()})")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise SourceError(f"{path}: the IDX file ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=axes, offset=4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise SourceError(
            f"{path}: the IDX file has {len(content)} bytes, its header says {expected} (sizes {list(shape)})"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
