"""Pickled dictionaries of numbers, text and NumPy arrays, without running what else a pickle may ask for."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.file_bytes import file_content


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 pickles bytes for old protocols by way of text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytes"): bytes,
}
"""All that may be named in a pickle; lists, dictionaries, text and numbers need no name."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not read for safety") from None


def load_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in ``path``, its keys as text; text from Python 2 stays bytes elsewhere. Raises SourceError."""
    try:
        content = _ArraysOnly(io.BytesIO(file_content(path)), encoding="bytes").load()
    except SourceError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise SourceError(f"{path}: this is no pickle of arrays that can be read ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: the pickle holds a {type(content).__name__} instead of a dictionary")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
