"""What a probe is: a predictor on frozen features, judged on images that pretraining and choice never saw.

Letters: N images, D width of the representation.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from issl_engine.config import Config


@dataclass(frozen=True, kw_only=True)
class Features:
    """Frozen representations of one split: ``x_ND`` float32 [n, d], ``labels_N`` int64 [n]."""

    x_ND: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def subset(self, indices: Tensor) -> "Features":
        """The images at ``indices`` (int64), in that order."""
        return Features(x_ND=self.x_ND[indices], labels_N=self.labels_N[indices])

    def joined(self, other: "Features") -> "Features":
        """These images, then the other's."""
        return Features(x_ND=torch.cat([self.x_ND, other.x_ND]), labels_N=torch.cat([self.labels_N, other.labels_N]))


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One number, with all that is needed to know what it means."""

    probe: str
    """Name of the probe: linear, knn."""
    metric: str
    """What is measured: top1 (percent)."""
    value: float
    split: str
    """The split that ``value`` was measured on."""
    num_train_images: int
    num_split_images: int
    held_out_value: float
    """The metric of the chosen hyper-parameters on the held-out part of the training split."""
    setting: str = ""
    """What sets this number apart from others of the same probe, in words: "1 % of labels", "5-shot", a source, a
    corruption; empty for the plain one."""
    interval: tuple[float, float] | None = None
    """Ends of a 95 % bootstrap interval over the images that were judged, or None where none was made."""
    draws: tuple[float, ...] = ()
    """The metric of each draw of training images, where there were several and ``value`` is their mean."""
    chosen: dict[str, float | int | bool] = field(default_factory=dict)
    """The hyper-parameters chosen on the held-out part."""
    grid: str = ""
    """What was searched, in words."""
    preprocessing: str = ""
    """How the images became features, in words."""
    seed: int = 0


class ProbeConfig(Config):
    """Base of every probe's Config: its ``name`` is a Literal."""

    name: str

    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int
    ) -> ProbeResult:
        """Fit on ``train``, choose hyper-parameters on ``held_out`` alone, refit on both, report on ``test``.

        Nothing but the reported ``value`` may depend on ``test``.
        """
        raise AssertionError(f"{type(self).__name__} must implement evaluate")
