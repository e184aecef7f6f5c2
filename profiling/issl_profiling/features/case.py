"""Made-up features of a size, as an encoder would give them.

Letters: N images, D width; b rows of a batch, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.features.file import StoredType

NUM_CLASSES = 100
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FeatureCase:
    """``num_images`` rows of ``dim`` numbers of one of NUM_CLASSES Gaussian classes."""

    num_images: int
    dim: int
    stored: StoredType

    @property
    def row_bytes(self) -> int:
        return self.dim * (4 if self.stored == "float32" else 2)

    @property
    def mib(self) -> float:
        return self.num_images * self.row_bytes / 2**20

    def labels_N(self) -> Tensor:
        return torch.arange(self.num_images) % NUM_CLASSES

    def batches(self) -> Iterator[Tensor]:
        """float32 [b, d]. The noise is drawn once and shifted, since drawing it would take longer than writing it."""
        generator = torch.Generator().manual_seed(0)
        centres_CD = 0.15 * torch.randn(NUM_CLASSES, self.dim, generator=generator)
        noise_bD = torch.randn(BATCH, self.dim, generator=generator)
        for labels_b in self.labels_N().split(BATCH):  # type: ignore[no-untyped-call]
            shift = int(torch.randint(self.dim, (1,), generator=generator))
            yield centres_CD[labels_b] + noise_bD[: len(labels_b)].roll(shift, 1)
