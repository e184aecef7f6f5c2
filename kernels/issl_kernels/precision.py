"""Arithmetic dtype of the losses: fp32, or fp64 for fp64 inputs (which is how the specification is checked)."""

import torch
from torch import Tensor


def arithmetic_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if any input is fp64, else fp32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
