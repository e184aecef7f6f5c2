"""x ← exp(−x), many times over in registers: the rate of a GPU's exponential units, with next to no memory traffic."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
EXPONENTIALS = 1024
"""For each number."""


@triton.jit  # type: ignore[untyped-decorator]
def _repeated_exponential(
    x_ptr: Any, out_ptr: Any, size: Any, COUNT: tl.constexpr, BLOCK: tl.constexpr
) -> None:  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size, other=0.0)
    for _ in range(COUNT):
        x = tl.exp(-x)
    tl.store(out_ptr + at, x, mask=at < size)


def repeated_exponential(x_N: Tensor) -> Tensor:
    """exp(−x), ``EXPONENTIALS`` times, of N numbers in fp32."""
    out_N = torch.empty_like(x_N)
    blocks = triton.cdiv(x_N.numel(), BLOCK)
    _repeated_exponential[(blocks,)](x_N, out_N, x_N.numel(), COUNT=EXPONENTIALS, BLOCK=BLOCK, num_warps=4)
    return out_N
