"""What a probe is: a predictor on frozen features, judged on images that pretraining and choice never saw.

Letters: N images, D width of the representation.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from torch import Tensor

from issl_engine.config import Config
from issl_engine.probing.config import Network
from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.protocols import protocol_named

Value = float | int | bool | str
"""A hyper-parameter's."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One number, with all that is needed to know what it means."""

    probe: str
    """Name of the probe: linear, knn."""
    metric: str
    """What is measured: top1, mean_average_precision or average_precision (percent); r2; rmse (in deviations of the
    targets over the judged images, or in a target's own unit where ``setting`` names it)."""
    value: float
    split: str
    """The split that ``value`` was measured on."""
    num_train_images: int
    num_split_images: int
    held_out_value: float | None
    """The score that chose the hyper-parameters, on training images that were held out; None where none were."""
    setting: str = ""
    """What sets this number apart from others of the same probe, in words: "1 % of labels", "5-shot", a source, a
    corruption; empty for the plain one."""
    protocol: str = ""
    """The published protocol whose settings the probe has, but for keys that were changed; empty for none."""
    network: str = ""
    """teacher for the EMA teacher's; empty for the encoder that took gradients (the student), and where there is one
    network."""
    interval: tuple[float, float] | None = None
    """Ends of a 95 % interval: a percentile bootstrap over the images that were judged, or Student's t over ``draws``
    where there are several. None where none was made."""
    draws: tuple[float, ...] = ()
    """The metric of each draw of training images, where there were several and ``value`` is their mean."""
    chosen: dict[str, Value] = field(default_factory=dict)
    """The hyper-parameters chosen."""
    grid: str = ""
    """What was searched, and which images chose, in words."""
    optimality_gap: float | None = None
    """The penalised loss of the fit that was judged is certainly no more than this above its minimum, in nats per image
    (a duality gap; of several draws, the largest). None where there is no such bound: by SGD, or not convex."""
    right_N: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    """Whether each judged image was told right, where ``value`` is the share of those; no part of the result's JSON."""
    preprocessing: str = ""
    """How the images became features, in words."""
    seed: int = 0

    def of_network(self, network: Network) -> "ProbeResult":
        """The same, said to be of this network."""
        return replace(self, network="" if network == "student" else network)


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Random crops and flips of images, ``batch_size`` of them a step."""

    area: tuple[float, float]
    """Range of the share of the image that a crop covers."""
    ratio: tuple[float, float]
    """Range of its width over its height."""
    flip: float
    """Probability of a horizontal flip."""
    batch_size: int
    epochs: int
    """Passes over the images; the incomplete last batch of each is left out."""


class TrainingCrops(ABC):
    """The images behind the features, for probes that are fitted on more than one crop of each."""

    @abstractmethod
    def batches(self, features: Features, crops: Crops, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The representations of crops of the images of ``features`` (float32 [b, d]) and their labels (int64 [b], on
        the CPU), batch after batch, in another order and with other crops each epoch.

        The encoder is in evaluation mode. Raises Mistake for an image that cannot be decoded, and for features that are
        NaN or infinite.
        """


@dataclass(frozen=True, kw_only=True)
class FitData:
    """All that a probe sees before it is judged. The images that judge it are not among it."""

    train: Features
    held_out: Features
    """A further part of the training split, to choose hyper-parameters on."""
    num_classes: int
    seed: int
    device: torch.device = CPU
    """Where to compute; features lie elsewhere and come block by block."""
    crops: TrainingCrops | None = None
    """Of the images of ``train`` and ``held_out``; None where features are all that there is."""


class Fitted(ABC):
    """A probe, fitted: nothing about it changes any more when it is judged."""

    @abstractmethod
    def judge(self, judged: Features) -> list[ProbeResult]:
        """Its numbers on images that it has not seen."""

    @abstractmethod
    def state(self) -> dict[str, Tensor | Value]:
        """All that its predictions depend on: weights, and what was chosen (``leak_check`` compares them)."""


class ProbeConfig(Config):
    """Base of every probe's Config: its ``name`` is a Literal."""

    name: str
    protocol: str = ""
    """The published protocol whose settings these are, but for keys that are given beside it (issl-engine list
    protocols); empty for none."""

    @field_validator("protocol")
    @classmethod
    def _is_known(cls, protocol: str) -> str:
        if protocol:
            protocol_named(protocol)
        return protocol

    def is_for(self, network: Network) -> bool:
        """Whether it is of this one of the two networks of an objective with an EMA teacher, as its protocol says."""
        wanted = protocol_named(self.protocol).network if self.protocol else None
        return wanted in (None, network)

    @property
    def takes_crops(self) -> bool:
        """Whether it is fitted on crops of the training images, which all ranks of a run make together."""
        return False

    def fit(self, data: FitData) -> Fitted:
        """Fit on ``data.train``, choose hyper-parameters on ``data.held_out``, refit on both.

        Raises Mistake where the images lack what the probe predicts.
        """
        raise AssertionError(f"{type(self).__name__} must implement fit")

    @final
    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int,
        device: torch.device = CPU, crops: TrainingCrops | None = None,
    ) -> list[ProbeResult]:  # fmt: skip
        """Fit without ``test``, then judge on it. No probe replaces this: what chooses never sees what judges."""
        data = FitData(
            train=train, held_out=held_out, num_classes=num_classes, seed=seed, device=device, crops=crops
        )  # fmt: skip
        return self.fit(data).judge(test)
