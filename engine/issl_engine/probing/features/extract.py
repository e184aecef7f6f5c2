"""Representations of a frozen encoder, computed once.

Letters: N images, D width of the representation; b images of a batch, h height, w width.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features

RAW_PIXELS_SIDE = 32
"""Raw pixels are pooled to at most this many a side: 64 x 64 x 3 inputs are too many for a linear probe."""


class FeaturesNotFinite(Mistake):
    """The encoder gives NaN or infinite features, so that no probe can be fitted."""


def extract_features(
    encoder: nn.Module | None, image_batches: Iterable[tuple[Tensor, Tensor]], *, device: torch.device
) -> Features:
    """Features of all batches ([b, 3, h, w] float, labels [b]) in order, fp32 on the CPU.

    The encoder (on ``device``) runs in evaluation mode without gradients; its modules get their modes back.
    None gives the raw pixels, pooled. Raises Mistake when there is no image, and for NaN or infinite
    features.
    """
    rows, labels = [], []
    for z_bD, labels_b in feature_batches(encoder, image_batches, device=device):
        rows.append(z_bD)
        labels.append(labels_b)
    return Features(x_ND=torch.cat(rows), labels_N=torch.cat(labels))


def feature_batches(
    encoder: nn.Module | None, image_batches: Iterable[tuple[Tensor, Tensor]], *, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """As extract_features, batch by batch: float32 [b, d] and int64 [b], on the CPU.

    NaN or infinite features are reported after the last batch, so whoever stores rows keeps none before the end.
    """
    count = broken = 0
    with evaluating(encoder):
        for images, labels_b in image_batches:
            z_bD = representations(encoder, images.to(device)).cpu()
            count += len(z_bD)
            broken += int((~z_bD.isfinite()).any(1).sum())
            yield z_bD, labels_b.cpu()
    if not count:
        raise Mistake("there is no image to compute features of; check the source's splits")
    if broken:
        raise FeaturesNotFinite(
            f"the encoder's features of {broken} of {count} images are NaN or infinite, so they cannot "
            "be probed; probe an earlier checkpoint, or pretrain with a lower learning rate"
        )


@torch.no_grad()
def representations(encoder: nn.Module | None, images: Tensor) -> Tensor:
    """Float32 [b, d] of a batch, where ``images`` lie; None gives the raw pixels, pooled."""
    if encoder is None:
        z_bD = _pooled_pixels(images)
    else:
        z_bD = encoder(images.contiguous(memory_format=torch.channels_last))
    assert z_bD.ndim == 2, f"an encoder gives [b, d], not {tuple(z_bD.shape)}"
    return z_bD.float()


@contextmanager
def evaluating(encoder: nn.Module | None) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module has its own mode again (a part may have been frozen)."""
    modes = [] if encoder is None else [(module, module.training) for module in encoder.modules()]
    if encoder is not None:
        encoder.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _pooled_pixels(images: Tensor) -> Tensor:
    height, width = (min(side, RAW_PIXELS_SIDE) for side in images.shape[-2:])
    return F.adaptive_avg_pool2d(images, (height, width)).flatten(1)
