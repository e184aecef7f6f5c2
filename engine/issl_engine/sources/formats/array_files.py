"""Arrays in .npy, .npz and HDF5 files, mapped into memory: read when a batch needs them, and not before.

What is packed in its file (compressed .npz, chunked HDF5) is unpacked once into a .npy file of the cache.
"""

import hashlib
import logging
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from issl_engine.cache import cache_folder
from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.new_file import new_file

_log = logging.getLogger("issl_engine")

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
BLOCK_BYTES = 64 * 2**20
"""What is unpacked at a time."""
ZIP_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip file's member: the lengths of its name and its extra field, which its data follow."""


def open_array(place: str, key: str) -> NDArray[Any]:
    """The array at FILE or FILE:NAME, read-only, mapped. Raises SourceError that names ``key``."""
    path, name = _parts(place, key)
    if not path.is_file():
        raise SourceError(f"{key}: {path} is not a file")
    try:
        if path.suffix.lower() == ".npy":
            return _map_npy(path)
        if path.suffix.lower() == ".npz":
            return _open_npz(path, name, key)
        return _open_hdf5(path, name, key)
    except SourceError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise _unreadable(path, key, str(error)) from error


def _unreadable(path: Path, key: str, reason: str) -> SourceError:
    return SourceError(f"{key}: {path} cannot be read ({reason}); write it again, or name another file")


def _parts(place: str, key: str) -> tuple[Path, str]:
    """File and name of the array; the name is empty for .npy."""
    whole = Path(place)
    if whole.suffix.lower() == ".npy":
        return whole, ""
    file, _, name = place.partition(":")
    if Path(file).suffix.lower() not in (".npz", *HDF5_SUFFIXES):
        raise SourceError(f"{key}: {place} must be a .npy file, or FILE:NAME of a .npz, .h5 or .hdf5 file")
    return Path(file), name


def _map_npy(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _open_npz(path: Path, name: str, key: str) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        _check_name(path, name, [member.removesuffix(".npy") for member in archive.namelist()], key)
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:

            def copy(file: IO[bytes]) -> None:
                with archive.open(member) as packed:
                    while block := packed.read(BLOCK_BYTES):
                        file.write(block)

            return _map_npy(_unpacked(path, name, copy))
    with path.open("rb") as file:
        file.seek(member.header_offset)
        lengths = ZIP_LOCAL_HEADER.unpack(file.read(ZIP_LOCAL_HEADER.size))
        file.seek(sum(lengths), os.SEEK_CUR)
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise _unreadable(path, key, "it holds Python objects")
        return np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order="F" if is_fortran else "C")


def _open_hdf5(path: Path, name: str, key: str) -> NDArray[Any]:
    try:
        import h5py
    except ImportError as error:
        raise SourceError(
            f"{key}: reading {path} needs h5py; install it with pip install 'issl-engine[hdf5]'"
        ) from error
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda found, item: names.append(found) if isinstance(item, h5py.Dataset) else None)
        _check_name(path, name.strip("/"), names, key)
        dataset = file[name]
        if dataset.dtype.kind not in "iuf":
            raise _unreadable(path, key, f"{name} holds {dataset.dtype} and no numbers")
        offset = dataset.id.get_offset()
        if offset is not None and dataset.external is None:
            return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)
        if not dataset.shape or 0 in dataset.shape:
            return np.empty(dataset.shape or (), dataset.dtype)

        def copy(out: IO[bytes]) -> None:
            npy.write_array_header_1_0(
                out, {"descr": npy.dtype_to_descr(dataset.dtype), "fortran_order": False, "shape": dataset.shape}
            )
            rows = dataset.chunks[0] if dataset.chunks else 1
            row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
            rows *= max(1, BLOCK_BYTES // (rows * row_bytes))  # whole chunks, which are unpacked whole
            for first in range(0, dataset.shape[0], rows):
                out.write(np.ascontiguousarray(dataset[first : first + rows]).tobytes())

        return _map_npy(_unpacked(path, name.strip("/"), copy))


def _check_name(path: Path, name: str, found: list[str], key: str) -> None:
    if name not in found:
        there = ", ".join(found[:10]) or "none"
        if not name:
            raise SourceError(f"{key}: name an array of {path} as {path}:NAME (there are: {there})")
        raise SourceError(f"{key}: {path} has no array '{name}' (there are: {there})")


def _unpacked(path: Path, name: str, write: Callable[[IO[bytes]], None]) -> Path:
    """The cache's copy of an array, as .npy; made, whole or not at all, where this state of the file has none."""
    status = path.stat()
    stamp = f"{path.resolve()}:{name}:{status.st_size}:{status.st_mtime_ns}"
    target = cache_folder() / "arrays" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npy"
    if target.is_file():
        return target
    _log.info("%s: unpacking %s into %s, once", path, name, target)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(new_file(target))
        except OSError as error:
            raise SourceError(
                f"{target}: cannot be written ({error.strerror}), and {path} must be unpacked; set ISSL_ENGINE_CACHE"
            ) from error
        write(file)
    return target
