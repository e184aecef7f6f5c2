"""Normalised rows of features, block by block, as often as a solver asks for them.

Letters: N images, D width; b images of a block.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from issl_engine.probing.features.features import Features

RESIDENT_BYTES = 2**30
"""Normalised rows of at most so much are kept on the CPU; more are read anew at each pass."""
RESIDENT_SHARE = 0.5
"""Of a GPU's free memory, what normalised rows may take there."""

Blocks = Callable[[], Iterable[tuple[slice, Tensor]]]
"""A pass: (which images, their rows float32 [b, d]), in order."""


def normalised_blocks(
    features: Features, scale_D: Tensor, offset_D: Tensor, *, resident_bytes: int | None = None
) -> Blocks:
    """Passes over x * scale + offset, on the device of ``scale_D``.

    Rows of at most ``resident_bytes`` (None: the limits above) are normalised once and kept there.
    """

    def read() -> Iterator[tuple[slice, Tensor]]:
        for part, x_bD in features.blocks(scale_D.device):
            yield part, torch.addcmul(offset_D, x_bD, scale_D)

    limit = _resident_bytes(scale_D.device) if resident_bytes is None else resident_bytes
    if 4 * len(features) * features.width > limit:
        return read
    kept = list(read())
    return lambda: kept


def _resident_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return int(RESIDENT_SHARE * free)
