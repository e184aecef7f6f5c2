"""Arithmetic dtype of the losses: fp32, or fp64 for fp64 inputs (which is how the specification is checked)."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def arithmetic_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if any input is fp64, else fp32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common arithmetic dtype."""
    dtype = arithmetic_dtype(*tensors)
    return tuple(tensor.to(dtype) for tensor in tensors)


def without_autocast(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For an autograd function's backward: a caller's autocast, if it is still on, must not lower its matmuls."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *gradients: Tensor) -> Any:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return backward(ctx, *gradients)

    return wrapped
