"""What the contrastive operations ask of their arguments, and make of them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_kernels.checks import check_floating, check_positive, check_same


def check_rows(anchors_VBD: Tensor, targets_GBD: Tensor, labels_B: Tensor | None, exchange: str) -> None:
    """Raises ValueError for anchors, targets, labels or an exchange that do not fit."""
    check_floating("anchors_VBD", anchors_VBD, 3)
    check_floating("targets_GBD", targets_GBD, 3)
    check_same("anchors_VBD", anchors_VBD, "targets_GBD", targets_GBD, (1, 2))
    if targets_GBD.shape[0] > anchors_VBD.shape[0]:
        raise ValueError(
            "targets_GBD has more views than anchors_VBD: their shapes are "
            f"{tuple(targets_GBD.shape)} and {tuple(anchors_VBD.shape)}"
        )
    if labels_B is not None:
        if labels_B.shape != anchors_VBD.shape[1:2] or labels_B.is_floating_point():
            raise ValueError(
                f"labels_B must be an integer for each image, shape ({anchors_VBD.shape[1]},), not {labels_B.dtype} of "
                f"shape {tuple(labels_B.shape)}; anchors_VBD has the shape {tuple(anchors_VBD.shape)}"
            )
        check_same("labels_B", labels_B, "anchors_VBD", anchors_VBD, ())
    if exchange not in ("gather", "ring"):
        raise ValueError(f"exchange is {exchange!r}; it must be gather or ring")


def check_scalar(name: str, value: float | Tensor, anchors_VBD: Tensor) -> None:
    """Raises ValueError unless it is a finite number, or a floating tensor of one element beside the anchors."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or not value.is_floating_point():
            raise ValueError(
                f"{name} must be a number or a floating-point tensor of one element, not one of shape "
                f"{tuple(value.shape)} and {value.dtype}"
            )
        check_same(name, value, "anchors_VBD", anchors_VBD, ())
    elif not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")


def check_factor(name: str, value: float | Tensor, anchors_VBD: Tensor) -> None:
    """As ``check_scalar``; a number must be above zero. A tensor is not read, since that would wait for the device."""
    if not isinstance(value, Tensor):
        check_positive(name, value)
    check_scalar(name, value, anchors_VBD)


def as_scalar(value: float | Tensor, anchors_VBD: Tensor) -> Tensor:
    """A tensor of one element on the anchors' device; numbers keep fp64's digits."""
    if isinstance(value, Tensor):
        return value
    return torch.full((), value, dtype=torch.float64, device=anchors_VBD.device)


def unit_rows(rows: Tensor) -> Tensor:
    """Divided by their length, in fp32 at least."""
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return F.normalize(wide, dim=-1).to(rows.dtype)
