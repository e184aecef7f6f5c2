"""A linear layer inside a loss. It multiplies one block of images at a time and sums its gradients over the blocks.

Letters: v views, B images, b images of a block, H width of the features, C classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

SHARE_OF_INPUTS = 0.3
"""A block's logits take at most this share of the memory of features and weights, or LEAST_BYTES if that is more."""

LEAST_BYTES = 2**23
"""Smaller blocks cost more time than their memory is worth."""


def even_blocks(B: int, bytes_per_image: int, *inputs: Tensor) -> Iterator[slice]:
    """Slices of images whose logits, of ``bytes_per_image``, stay within their share of the inputs (one image at
    least), all of about the same size."""
    budget = max(LEAST_BYTES, SHARE_OF_INPUTS * sum(x.numel() * x.element_size() for x in inputs))
    count = -(-B // max(1, int(budget // bytes_per_image)))
    step = -(-B // count)
    for start in range(0, B, step):
        yield slice(start, min(start + step, B))


def product_dtype(features: Tensor) -> torch.dtype:
    """Dtype of the layer's products: autocast's where autocast is on, else the features'."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


def all_logits(features_vBH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> Tensor:
    """The layer's output for all images at once, in its products' dtype: what blocks avoid, and references do."""
    dtype = product_dtype(features_vBH)
    return F.linear(features_vBH.to(dtype), weight_CH.to(dtype), None if bias_C is None else bias_C.to(dtype))


class LinearInBlocks:
    """features · weightᵀ + bias, one block at a time, and the sums of those gradients that are wanted."""

    def __init__(
        self,
        features_vBH: Tensor,
        weight_CH: Tensor,
        bias_C: Tensor | None,
        dtype: torch.dtype,
        sum_dtype: torch.dtype,
        wanted: tuple[bool, bool, bool] = (False, False, False),
    ) -> None:
        """``wanted``: whether the features, the weight and the bias need a gradient."""
        self.features_vBH = features_vBH
        self.dtype, self.sum_dtype = dtype, sum_dtype
        self.weight_CH = weight_CH.to(dtype)
        self.bias_C = None if bias_C is None else bias_C.to(dtype)
        self.d_features_vBH = torch.empty_like(features_vBH, dtype=dtype) if wanted[0] else None
        self.d_weight_CH = torch.zeros_like(weight_CH, dtype=sum_dtype) if wanted[1] else None
        self.d_bias_C = torch.zeros_like(bias_C, dtype=sum_dtype) if wanted[2] and bias_C is not None else None

    def logits(self, rows: slice) -> Tensor:
        """[v, b, C] in new memory."""
        return F.linear(self.features_vBH[:, rows].to(self.dtype), self.weight_CH, self.bias_C)

    def add_gradients(self, d_logits_vbC: Tensor, rows: slice) -> None:
        """Adds the gradients that come from one block's logits [v, b, C]."""
        C, H = self.weight_CH.shape
        d_flat_RC = d_logits_vbC.reshape(-1, C)
        if self.d_features_vBH is not None:
            self.d_features_vBH[:, rows] = (d_flat_RC @ self.weight_CH).view(*d_logits_vbC.shape[:2], H)
        if self.d_weight_CH is not None:
            features_RH = self.features_vBH[:, rows].to(self.dtype).reshape(-1, H)
            if self.d_weight_CH.dtype == self.dtype:
                self.d_weight_CH.addmm_(d_flat_RC.T, features_RH)
            else:
                self.d_weight_CH += d_flat_RC.T @ features_RH
        if self.d_bias_C is not None:
            self.d_bias_C += d_flat_RC.sum(0, dtype=self.sum_dtype)

    def gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """To the features, the weight and the bias."""
        return self.d_features_vBH, self.d_weight_CH, self.d_bias_C


def scaled_(gradient: Tensor | None, scale: Tensor, like: Tensor | None) -> Tensor | None:
    """``gradient`` times ``scale`` in the dtype of ``like``; in its own memory where it has that dtype already."""
    return None if gradient is None or like is None else gradient.mul_(scale).to(like.dtype)
