"""Memory of batches that is used again: making it anew costs more than filling it.

The C library gives large blocks back to the system as soon as they are free, and the system clears each page of a new
one: with 32 images of 2 x 224 and 6 x 96 px that takes twenty times as long as copying the crops.
"""

import math
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CPU = torch.device("cpu")
_STORED_AS: dict[torch.dtype, type[np.generic]] = {torch.float32: np.float32, torch.bfloat16: np.uint16}
"""NumPy has no bfloat16: its bits are kept in whole numbers of 16 bits."""


class BatchBuffers:
    """Memory for tensors of a few sizes. On the CPU a block is used again once no tensor refers to it any more, views
    and tensors that autograd keeps included, so callers may hold a batch for as long as they like. On a GPU torch's
    own allocator does that."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.dtype], list[NDArray[Any]]] = {}

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device = _CPU) -> Tensor:
        """A tensor [shape] of float32 or bfloat16, with whatever content it had."""
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        size = math.prod(shape)
        free = self._free.setdefault((size, dtype), [])
        block = free.pop() if free else np.empty(size, dtype=_STORED_AS[dtype])
        lease = block[:]  # torch holds this object for as long as anything shares the tensor's memory
        weakref.finalize(lease, free.append, block).atexit = False
        return torch.from_numpy(lease).view(dtype).view(shape)
