"""What is predicted, and how well: the score that chooses, and the verdict on the judged images.

Letters: S points of a grid, B images of a block.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.fitting.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One metric on the judged images, with the ends of its 95 % bootstrap interval over them."""

    metric: str
    value: float
    interval: tuple[float, float]
    num_images: int
    right_N: NDArray[np.bool_] | None = None
    """Whether each image was told right, where ``value`` is the share of those."""
    setting: str = ""
    """What it was measured on, where that is a part of the targets."""


class Task(ABC):
    """Predicting one kind of target."""

    @abstractmethod
    def usable(self, features: Features) -> Features:
        """The images that have the target. Raises Mistake, with one sentence, where that cannot be."""

    @abstractmethod
    def scores(self, predictor: Predictor, features: Features, device: torch.device) -> list[float]:
        """One number a point of the grid, the higher the better."""

    @abstractmethod
    def judge(self, predictor: Predictor, features: Features, device: torch.device, seed: int) -> list[Verdict]:
        """Of the only point of ``predictor``."""
