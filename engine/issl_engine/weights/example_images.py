"""What traced formats are traced with.

Letters: N images, C channels, H height, W width.
"""

import torch
from torch import Tensor

from issl_engine.weights.open_encoder import OpenedEncoder

BATCH = torch.export.Dim("batch", min=1)
"""Left open in what is traced."""


def example_images(opened: OpenedEncoder, count: int = 2) -> Tensor:
    """[count, 3, crop, crop]: normal, as normalised images are about; two, since one would be taken for fixed."""
    crop = opened.preprocessing.crop
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, crop, crop, generator=generator)
