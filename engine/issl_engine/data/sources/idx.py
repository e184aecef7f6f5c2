"""The IDX format of the MNIST family: a magic number, the sizes, then bytes."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from issl_engine.data.sources.base import SourceError

UNSIGNED_BYTE = 8


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
