"""What the launchers of Triton kernels share: devices, dtypes, alignment, contiguous classes."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

VECTOR_BYTES = 16
"""One thread's widest access to memory."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Read when the kernels are imported, as Triton does: they are then Python functions, for tensors on the CPU."""

TRITON_DTYPES: dict[torch.dtype, Any] = {torch.float32: tl.float32, torch.float64: tl.float64}


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Kernels are launched on the current device, which need not be the tensors'."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def with_contiguous_rows(x: Tensor) -> Tensor:
    """``x``, copied if the elements of its last axis are not neighbours in memory."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def alignment(*tensors: Tensor) -> int:
    """Largest power of two, up to a vector access, of elements that divides every row's distance from the start.

    Rows of 3000 bf16 start at multiples of 8 elements; Triton by itself only notices multiples of 16.
    """
    common = min(VECTOR_BYTES // x.element_size() for x in tensors)
    for x in tensors:
        while any(stride % common for stride in x.stride()[:-1]):
            common //= 2
    return common


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
