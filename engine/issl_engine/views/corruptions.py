"""Corruptions of test images, five strengths each, after ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261).

The strengths are ImageNet-C's, whose images are 224 px a side. What is a length is kept as a share of the image's side,
so that a 32 px image is blurred as much as a 224 px one; noise is a share of the range from black to white, contrast
a factor, JPEG a quality.

Letters: B images of a batch, C channels.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from issl_engine.config import Config
from issl_engine.random_streams import Purpose, uniforms
from issl_engine.views.noise_field import NoiseField, first_places

CorruptionKind = Literal["gaussian_noise", "gaussian_blur", "contrast", "jpeg"]
Strength = Annotated[int, Field(ge=1, le=5)]

GAUSSIAN_NOISE_STD = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation as a share of the range of pixels."""
GAUSSIAN_BLUR_SIGMA = (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224)
"""Standard deviation as a share of the image's side."""
CONTRAST_FACTOR = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Each channel keeps this share of its distance from its mean over the image."""
JPEG_QUALITY = (25, 18, 15, 10, 7)
"""Quality of libjpeg, 1 to 100."""


class CorruptionsConfig(Config):
    """Corrupted copies of the images that probes are judged on; the probes are fitted on clean ones."""

    kinds: Annotated[tuple[CorruptionKind, ...], Field(min_length=1)] = (
        "gaussian_noise",
        "gaussian_blur",
        "contrast",
        "jpeg",
    )
    """Which corruptions."""
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """Which strengths of each, from 1 (weak) to 5, as ImageNet-C numbers them."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the noise. The same for all encoders and probes, so that they are judged on the same pixels."""

    def of_kind(self, kind: CorruptionKind) -> tuple["Corruption", ...]:
        """All strengths of one kind; one given twice is one."""
        strengths = dict.fromkeys(self.strengths)
        return tuple(Corruption(kind=kind, strength=strength, seed=self.seed) for strength in strengths)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One corruption at one strength (1 to 5)."""

    kind: CorruptionKind
    strength: int
    seed: int = 0

    def noise_std(self) -> float:
        """In grey levels of 255."""
        assert self.kind == "gaussian_noise"
        return 255 * GAUSSIAN_NOISE_STD[self.strength - 1]

    def blur_sigma(self, side: int) -> float:
        """In pixels of an image of ``side`` px."""
        assert self.kind == "gaussian_blur"
        return side * GAUSSIAN_BLUR_SIGMA[self.strength - 1]

    def contrast_factor(self) -> float:
        assert self.kind == "contrast"
        return CONTRAST_FACTOR[self.strength - 1]

    def jpeg_quality(self) -> int:
        assert self.kind == "jpeg"
        return JPEG_QUALITY[self.strength - 1]

    def describe(self) -> str:
        """As results name it: ``gaussian blur 3``."""
        return f"{self.kind.replace('_', ' ')} {self.strength}"


class CorruptionInputs:
    """What the graph is fed for a corruption: the noise of each image, which depends on the seed and on the image's
    place in its set alone; nothing for the others.

    Channels of a grey image share their noise, as they share their pixels.
    """

    def __init__(self, corruption: Corruption | None, side: int, channels: int) -> None:
        self.side, self.channels = side, channels
        self.noisy = corruption is not None and corruption.kind == "gaussian_noise"
        if self.noisy:
            assert corruption is not None
            self._seed, self._field = corruption.seed, NoiseField(corruption.seed, side)

    @property
    def layouts(self) -> dict[str, str]:
        """The names that ``batch`` gives, and their layouts."""
        return {"noise": "HWC"} if self.noisy else {}

    def batch(self, ids: NDArray[np.int64]) -> dict[str, NDArray[np.int8]]:
        """``noise`` int8 [B, side, side, C], in 32nds of a standard deviation, where the corruption has any."""
        if not self.noisy:
            return {}
        starts = [
            uniforms(1, 1, seed=self._seed, epoch=0, first_position=index, purpose=Purpose.CORRUPTION)
            for index in ids.tolist()
        ]
        return {"noise": self._field.windows(first_places(np.concatenate(starts)[:, 0]), self.side, self.channels)}
