"""Argument checks that the operations share: a ValueError that names the argument and both shapes."""

import math
import os

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

CHECK_VARIABLE = "ISSL_KERNELS_CHECK"
"""Set to 1, every operation looks for values that are not finite, which waits for the device."""


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


def check_linear(prefix: str, features_vBH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> None:
    """A layer that fits its features: weight [C, H] and bias [C] or None, on their device."""
    name = f"{prefix}_weight_CH" if prefix else "weight_CH"
    features_name = f"{prefix}_features" if prefix else "features_VBH"
    check_floating(name, weight_CH, 2)
    if weight_CH.shape[1] != features_vBH.shape[-1]:
        raise ValueError(
            f"{name} and {features_name} do not fit together: their shapes are {tuple(weight_CH.shape)} and "
            f"{tuple(features_vBH.shape)}, which must agree along their last axis"
        )
    check_same(name, weight_CH, features_name, features_vBH, ())
    if bias_C is not None:
        bias_name = f"{prefix}_bias_C" if prefix else "bias_C"
        check_floating(bias_name, bias_C, 1)
        check_same(bias_name, bias_C, name, weight_CH, (0,))


def check_group(name: str, tensor: Tensor, group: ProcessGroup | None) -> None:
    """A group whose backend moves tensors of this device, and whose ranks all bring as many images (axis 1). With NCCL
    the second is looked at only where ISSL_KERNELS_CHECK is 1, since it waits for the device."""
    if group is None:
        return
    backend = dist.get_backend(group)
    unfit = {"nccl": tensor.device.type != "cuda", "gloo": tensor.device.type not in ("cpu", "cuda")}
    if unfit.get(backend, False):
        raise ValueError(f"the group's backend is {backend}, which does not move tensors on {tensor.device}")
    if backend == "nccl" and os.environ.get(CHECK_VARIABLE) != "1":
        return
    sizes = torch.tensor([tensor.shape[1], -tensor.shape[1]], device=tensor.device)
    dist.all_reduce(sizes, op=dist.ReduceOp.MAX, group=group)
    most, least = int(sizes[0]), -int(sizes[1])
    if most != least:
        raise ValueError(
            f"{name} has {tensor.shape[1]} images on this rank, shape {tuple(tensor.shape)}, and ranks have from "
            f"{least} to {most}: every rank must bring as many (drop the last, smaller batch)"
        )


def check_positive(name: str, value: float) -> None:
    """Above zero, neither infinite nor NaN."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")


def check_finite(name: str, tensor: Tensor) -> None:
    """Only where ISSL_KERNELS_CHECK is 1: names the first row that holds an infinity or a NaN."""
    if os.environ.get(CHECK_VARIABLE) != "1" or torch.compiler.is_compiling():
        return
    bad = ~tensor.detach().isfinite()
    if bad.any():
        place = [int(i) for i in bad.nonzero()[0]]
        row = ", ".join(str(i) for i in place[:-1])
        raise ValueError(
            f"{name} holds {int(bad.sum())} values that are not finite; the first is {float(tensor[tuple(place)])} in "
            f"{name}[{row}], at position {place[-1]} of {tensor.shape[-1]} (its shape is {tuple(tensor.shape)})"
        )


def check_may_be_overwritten(**tensors: Tensor) -> None:
    """Logits whose memory is to take their gradient: no leaves, no memory that is shared."""
    for name, tensor in tensors.items():
        owner = tensor if tensor._base is None else tensor._base
        if owner.is_leaf and owner.requires_grad:
            what = "a leaf" if owner is tensor else "a view of a leaf"
            raise ValueError(f"overwrite_logits would overwrite {name}, {what} that keeps its value: pass False")
        if tensor.stride(-1) != 1 or any(step == 0 for step in tensor.stride()):
            raise ValueError(
                f"overwrite_logits needs {name} in memory of its own, contiguous along the classes; its shape is "
                f"{tuple(tensor.shape)} and its strides are {tensor.stride()}"
            )
    if torch.compiler.is_compiling():
        return
    storages = [tensor.untyped_storage().data_ptr() for tensor in tensors.values()]
    if len(set(storages)) < len(storages):
        raise ValueError(f"overwrite_logits needs {' and '.join(tensors)} in memory of their own, but they share it")
