"""The linear probe on random crops: what most published figures of ImageNet are.

Letters: S points of the grid, D width, B images of a batch.
"""

import logging
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import Crops, FitData, Value
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.fitting.sgd_heads import SgdHeads
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import FittedPoint, GridProbeConfig, Point

_log = logging.getLogger("issl_engine")

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
IMAGES_OF_A_RATE = 256


class LinearAugmentedProbeConfig(GridProbeConfig):
    """Softmax regression by SGD on random crops and flips of the training images, through the frozen encoder.

    All learning rates are trained together on one pass of each crop through the encoder, which is in evaluation mode
    and on all ranks of a run. Held-out training images, as they are judged, choose; the choice is then trained anew on
    all training images. So the encoder sees epochs x images crops twice, and with a single point of the grid, where
    nothing is chosen, once. It never sees the images that judge the probe before they do.
    """

    name: Literal["linear_augmented"] = "linear_augmented"
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.03, 0.1, 0.3, 1.0)
    """Peak learning rates of the grid, per 256 images: a step's is lr x batch_size / 256."""
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.0,)
    """Weight decays of the grid."""
    normalise: Literal["none", "scale", "standardise"] = "scale"
    """What is done to features first. none: nothing, as in published protocols. scale: all are divided by their root
    mean square over the training images, so that one grid of learning rates serves every encoder. standardise: each by
    its own mean and deviation there."""
    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the images; the learning rate falls along a cosine, step by step."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per step, over all ranks; all of them where there are fewer. An incomplete last batch is left out."""
    area: tuple[Positive, Share] = (0.08, 1.0)
    """Range of the share of an image that a training crop covers."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Range of a crop's width over its height."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of a horizontal flip."""

    @property
    def takes_crops(self) -> bool:
        return True

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"lr": self.lrs, "weight_decay": self.weight_decays}

    def describe(self) -> str:
        features = {"none": "", "scale": ", features scaled", "standardise": ", features standardised"}[self.normalise]
        return (
            f"per 256 images, {self.epochs} epochs of random crops of {self.area[0]:g} to {self.area[1]:g} of the "
            f"image and flips, batch {self.batch_size}{features}"
        )

    def fit(self, data: FitData) -> FittedPoint:
        points = self.points()
        if len(points) > 1:
            return super().fit(data)
        whole = self.task.usable(data.train.joined(data.held_out))
        return self.fit_point(whole, points[0], data, held_out_value=None, how="nothing to choose")

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        if data.crops is None:
            raise Mistake(
                "the linear_augmented probe is fitted on images, and there are only features here; take linear"
            )
        size = min(self.batch_size, len(features))
        crops = Crops(area=self.area, ratio=self.ratio, flip=self.flip, batch_size=size, epochs=self.epochs)
        steps = self.epochs * (len(features) // size)
        scale_G1D, offset_G1D = self._normalisation(features, data.device)
        rates: list[Point] = [point | {"lr": float(point["lr"]) * size / IMAGES_OF_A_RATE} for point in points]
        heads = SgdHeads(rates, data.num_classes, scale_G1D, offset_G1D)
        for step, (x_BD, labels_B) in enumerate(data.crops.batches(features, crops, seed=data.seed)):
            rate = 0.5 * (1 + math.cos(math.pi * step / steps))
            heads.step(x_BD.to(data.device), labels_B.to(data.device), rate)
            if (step + 1) % (steps // self.epochs) == 0:
                _log.debug("linear_augmented: epoch %d of %d", (step + 1) * self.epochs // steps, self.epochs)
        return heads.classifier()

    def _normalisation(self, features: Features, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scale and offset [1, 1, D], of the features as they are judged."""
        if self.normalise == "none":
            ones = torch.ones(1, 1, features.width, device=device)
            return ones, torch.zeros_like(ones)
        statistics = moments(features, device)
        scale_D, offset_D = statistics.standardising if self.normalise == "standardise" else statistics.resizing
        return scale_D[None, None], offset_D[None, None]
