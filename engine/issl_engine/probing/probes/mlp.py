"""The MLP probe: hidden layers with batch-norm and ReLU, a whole grid trained together by batched matmuls.

Letters: S combinations of the grid, B images of a batch, D width of the representation, C classes.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.fitting.epoch_order import epoch_order
from issl_engine.probing.probes.fitting.mlp_stack import MLPStack
from issl_engine.probing.probes.fitting.predictor import Predictor, likeliest
from issl_engine.probing.probes.fitting.sgd_heads import MOMENTUM
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import Point

Positive = Annotated[float, Field(gt=0)]


class MLPProbeConfig(ClassProbeConfig):
    """A multilayer perceptron (hidden layers with batch-norm and ReLU) by SGD, over lr x weight decay."""

    name: Literal["mlp"] = "mlp"
    hidden_widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1024,)
    """Units of each hidden layer."""
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.01, 0.03, 0.1, 0.3)
    """Peak learning rates of the grid."""
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.0, 1e-4)
    """Weight decays of the grid; biases and batch-norm are left alone."""
    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the features; the learning rate falls along a cosine."""
    batch_size: Annotated[int, Field(ge=2)] = 256
    """Images per step."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"lr": self.lrs, "weight_decay": self.weight_decays}

    def describe(self) -> str:
        return f"hidden widths {list(self.hidden_widths)}, {self.epochs} epochs"

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> "MLPClassifier":
        if len(features) < 2:
            raise Mistake("the mlp probe normalises by the batch, so it needs at least 2 images; take another probe")
        generator = torch.Generator().manual_seed(data.seed)
        widths = (features.width, *self.hidden_widths, data.num_classes)
        stack = MLPStack(widths, len(points), generator=generator, device=data.device)
        scale_D, offset_D = moments(features, data.device).standardising
        speeds = [torch.zeros_like(parameter) for parameter in stack.parameters]
        lr_S = torch.tensor([float(point["lr"]) for point in points], device=data.device)
        decay_S = torch.tensor([float(point["weight_decay"]) for point in points], device=data.device)
        N = len(features)
        B = min(self.batch_size, N)
        steps = self.epochs * (N // B)
        batches = itertools.chain.from_iterable(
            epoch_order(N, 4 * features.width, generator)[: N - N % B].split(B) for _ in range(self.epochs)
        )
        for step, index_B in enumerate(batches):
            x_BD = torch.addcmul(offset_D, features.batch(index_B, data.device), scale_D)
            rate_S = lr_S * (0.5 * (1 + math.cos(math.pi * step / steps)))
            _descend(stack, speeds, x_BD, features.labels_N[index_B].to(data.device), rate_S, decay_S)
        return MLPClassifier(stack, scale_D, offset_D)


class MLPClassifier(Predictor):
    """The class of the largest output; weights that overflowed know none."""

    def __init__(self, stack: MLPStack, scale_D: Tensor, offset_D: Tensor) -> None:
        self.stack, self.scale_D, self.offset_D = stack, scale_D, offset_D

    @torch.no_grad()
    def predict(self, x_BD: Tensor) -> Tensor:
        logits_SBC = self.stack.outputs(torch.addcmul(self.offset_D, x_BD, self.scale_D), training=False)
        return torch.where(logits_SBC.isfinite().all(2), logits_SBC.argmax(2), -1)

    @torch.no_grad()
    def ranked(self, x_BD: Tensor, count: int) -> Tensor:
        logits_SBC = self.stack.outputs(torch.addcmul(self.offset_D, x_BD, self.scale_D), training=False)
        finite_SB1 = logits_SBC.isfinite().all(2, keepdim=True)
        return torch.where(finite_SB1, likeliest(logits_SBC.nan_to_num(), count), -1)

    def state(self) -> dict[str, Tensor]:
        return self.stack.state() | {"scale": self.scale_D, "offset": self.offset_D}


def _descend(
    stack: MLPStack, speeds: list[Tensor], x_BD: Tensor, labels_B: Tensor, rate_S: Tensor, decay_S: Tensor
) -> None:
    """One step of SGD with momentum for all combinations; the loss of one is not felt by another."""
    logits_SBC = stack.outputs(x_BD, training=True)
    S = len(logits_SBC)
    labels_SB = labels_B.expand(S, -1)
    loss = F.cross_entropy(logits_SBC.flatten(0, 1), labels_SB.flatten(), reduction="sum") / len(labels_B)
    gradients = torch.autograd.grad(loss, stack.parameters)
    with torch.no_grad():
        for parameter, speed, gradient in zip(stack.parameters, speeds, gradients, strict=True):
            speed.mul_(MOMENTUM).add_(gradient)
            if parameter.ndim == 3:  # weights; biases and batch-norm are [s, j]
                speed.add_(decay_S[:, None, None] * parameter)
            parameter -= rate_S.view(-1, *[1] * (parameter.ndim - 1)) * speed
