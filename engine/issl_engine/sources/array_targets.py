"""Numbers and attributes of images in NumPy's or HDF5's files.

Letters: n images, T columns.
"""

import numpy as np

from issl_engine.sources.array_files import open_array
from issl_engine.sources.base import SourceError
from issl_engine.sources.target_table import TargetTable


def read_target_table(key: str, place: str, names: tuple[str, ...] | None, names_key: str, count: int) -> TargetTable:
    """A table [n, T] or a column [n], as float32; columns without names are numbered. Raises SourceError."""
    array = open_array(place, key)
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise SourceError(
            f"{key}: {place} is {array.dtype} of shape {list(array.shape)}, but it must hold numbers [n, columns], one "
            "row an image (NaN where one is unknown); convert it"
        )
    if len(array) != count:
        raise SourceError(f"{key}: {place} has {len(array)} rows, but there are {count} images; make them agree")
    values_NT = np.asarray(array, dtype=np.float32).reshape(count, -1)
    if np.isinf(values_NT).any():
        raise SourceError(f"{key}: {place} holds an infinite number; write NaN where a number is unknown")
    columns = values_NT.shape[1]
    if names is not None and len(names) != columns:
        raise SourceError(f"{names_key}: there are {len(names)} names, but {place} has {columns} columns")
    return TargetTable(names=names if names is not None else tuple(map(str, range(columns))), values_NT=values_NT)
