"""The linear probe as published protocols train it, by SGD: a whole grid of hyper-parameters
trained together as one batched matmul.

Letters: N images, D width, C classes, B images of a batch; S combinations of the grid, in G groups that see
the features normalised in the same way.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.fitting.epoch_order import epoch_order
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.fitting.sgd_heads import SgdHeads
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import Point

Positive = Annotated[float, Field(gt=0)]


class LinearSGDProbeConfig(ClassProbeConfig):
    """Softmax regression by SGD on frozen features, over lr x weight decay x batch-norm: near the optimum, if at all,
    after many epochs. For published protocols; linear is solved."""

    name: Literal["linear_sgd"] = "linear_sgd"
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """Peak learning rates of the grid."""
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.0, 1e-4)
    """Weight decays of the grid."""
    batch_norm: Annotated[tuple[bool, ...], Field(min_length=1)] = (True, False)
    """With true, each feature is standardised by its mean and deviation over the images that the probe is
    fitted on: a batch-norm layer without learnt scale, its statistics final from the start. With false, all
    features are divided by one number, their root mean square, so that one grid of learning rates serves
    every encoder."""
    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the features; the learning rate falls along a cosine."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per step."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"batch_norm": self.batch_norm, "lr": self.lrs, "weight_decay": self.weight_decays}

    def describe(self) -> str:
        return f"{self.epochs} epochs"

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        kinds = list(dict.fromkeys(bool(point["batch_norm"]) for point in points))
        size = len(points) // len(kinds)
        assert [point["batch_norm"] for point in points] == [kind for kind in kinds for _ in range(size)]
        statistics = moments(features, data.device)
        norms = [statistics.standardising if kind else statistics.resizing for kind in kinds]
        scale_G1D = torch.stack([scale_D for scale_D, _ in norms])[:, None]
        offset_G1D = torch.stack([offset_D for _, offset_D in norms])[:, None]
        weights_SCD, bias_SC = fit_grid(
            features, scale_G1D, offset_G1D, points, num_classes=data.num_classes,
            epochs=self.epochs, batch_size=self.batch_size, seed=data.seed,
        )  # fmt: skip
        return LinearClassifier(weights_SCD=weights_SCD, bias_SC=bias_SC, scale_G1D=scale_G1D, offset_G1D=offset_G1D)


def fit_grid(
    fit: Features, scale_G1D: Tensor, offset_G1D: Tensor, points: Sequence[Point], *, num_classes: int,
    epochs: int, batch_size: int, seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weights [S, C, D] and biases [S, C] after SGD with momentum on the cross-entropy, where ``scale_G1D`` lies.

    They start at zero, and the learning rates fall along a cosine to zero; weight decay is added to the
    gradient and leaves the biases alone. Each step gathers one batch and does two matmuls for all
    combinations, so all see the batches in one order. The incomplete last batch of an epoch is left out.
    Batches are normalised as they come: a normalised copy of all features would double the memory.
    """
    device, N = scale_G1D.device, len(fit)
    heads = SgdHeads(points, num_classes, scale_G1D, offset_G1D)
    generator = torch.Generator().manual_seed(seed)
    B = min(batch_size, N)
    steps_per_epoch = N // B
    for step in range(epochs * steps_per_epoch):
        within = step % steps_per_epoch
        if within == 0:
            order_N = epoch_order(N, 4 * fit.width, generator)
        index_B = order_N[within * B : (within + 1) * B]
        rate = 0.5 * (1 + math.cos(math.pi * step / (epochs * steps_per_epoch)))
        heads.step(fit.batch(index_B, device), fit.labels_N[index_B].to(device), rate)
    return heads.weights_SCD, heads.bias_SC
