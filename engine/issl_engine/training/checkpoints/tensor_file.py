"""Safetensors files, written tensor by tensor: no second copy of what they hold, and the checksum on the way.

Layout (the format's specification): 8 bytes with the header's length, the header (JSON, padded with blanks), then the
tensors' bytes, one after the other.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from issl_engine.training.checkpoints.digests import remember
from issl_engine.training.checkpoints.manifest import FileRecord

BYTES_AT_ONCE = 1 << 24

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """What one file will hold: contiguous tensors in host memory by name, and text beside them."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def write_tensor_file(path: Path, content: TensorFile) -> FileRecord:
    """Writes ``path`` through to the disk. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for block in (_header(content), *map(_bytes, content.tensors.values())):
            for start in range(0, len(block), BYTES_AT_ONCE):
                part = block[start : start + BYTES_AT_ONCE]
                size += _write_all(file.fileno(), part)
                digest.update(part)
        os.fsync(file.fileno())
    remember(path, digest.hexdigest())
    return FileRecord(bytes=size, sha256=digest.hexdigest())


def _header(content: TensorFile) -> memoryview:
    header: dict[str, object] = {"__metadata__": dict(content.metadata)} if content.metadata else {}
    offset = 0
    for name, tensor in content.tensors.items():
        end = offset + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: Tensor) -> memoryview:
    assert tensor.is_contiguous(), "tensors of a file are contiguous"
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _write_all(handle: int, part: memoryview) -> int:
    written = 0
    while written < len(part):
        written += os.write(handle, part[written:])
    return written
