"""Argument checks that the operations share: a ValueError that names the argument and both shapes."""

import math

from torch import Tensor


def check_floating(name: str, tensor: Tensor, dimensions: int) -> None:
    """A floating tensor with ``dimensions`` axes, none of them empty."""
    if tensor.dim() != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not the shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, not {tensor.dtype}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(tensor.shape)}")


def check_same(name: str, tensor: Tensor, other_name: str, other: Tensor, axes: tuple[int, ...]) -> None:
    """Two tensors of one device whose sizes agree along ``axes``."""
    if any(tensor.shape[axis] != other.shape[axis] for axis in axes):
        raise ValueError(
            f"{name} and {other_name} do not fit together: their shapes are {tuple(tensor.shape)} and "
            f"{tuple(other.shape)}, which must agree along {'axis' if len(axes) == 1 else 'axes'} "
            f"{', '.join(str(axis) for axis in axes)}"
        )
    if tensor.device != other.device:
        raise ValueError(f"{name} is on {tensor.device} and {other_name} on {other.device}; move one of them")


def check_positive(name: str, value: float) -> None:
    """Above zero, neither infinite nor NaN."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")
