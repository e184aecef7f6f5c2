"""Representations of a frozen encoder, computed once."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from issl_engine.probing.base import Features

RAW_PIXELS_SIDE = 32
"""Raw pixels are pooled to at most this many pixels a side: 64 x 64 x 3 inputs are too many for a linear probe."""


@torch.no_grad()
def extract_features(
    encoder: nn.Module | None, image_batches: Iterable[tuple[Tensor, Tensor]], *, device: torch.device
) -> Features:
    """Features of all batches ([b, 3, h, w] float, labels [b]) in order, fp32 on the CPU.

    The encoder runs in evaluation mode without gradients, and gets its mode back. None gives the raw pixels, pooled.
    """
    was_training = encoder is not None and encoder.training
    if encoder is not None:
        encoder.eval()
    rows, labels = [], []
    try:
        for images, batch_labels in image_batches:
            images = images.to(device)
            if encoder is None:
                z = _pooled_pixels(images)
            else:
                z = encoder(images.contiguous(memory_format=torch.channels_last))
            rows.append(z.float().cpu())
            labels.append(batch_labels.cpu())
    finally:
        if encoder is not None:
            encoder.train(was_training)
    return Features(x_ND=torch.cat(rows), labels_N=torch.cat(labels))


def _pooled_pixels(images: Tensor) -> Tensor:
    side = min(images.shape[-1], RAW_PIXELS_SIDE)
    return F.adaptive_avg_pool2d(images, side).flatten(1)
