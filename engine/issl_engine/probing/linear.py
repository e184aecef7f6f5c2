"""The linear probe: a whole grid of hyper-parameters trained together as one batched matmul.

Letters: N images, D width, C classes, H combinations of learning rate and weight decay, B images of a batch.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.probing.base import Features, ProbeConfig, ProbeResult

MOMENTUM = 0.9
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One point of the grid."""

    lr: float
    weight_decay: float
    batch_norm: bool


class LinearProbeConfig(ProbeConfig):
    """Softmax regression by SGD on frozen features, over lr x weight decay x batch-norm."""

    name: Literal["linear"] = "linear"
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Peak learning rates of the grid."""
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.0, 1e-4)
    """Weight decays of the grid."""
    batch_norm: Annotated[tuple[bool, ...], Field(min_length=1)] = (True, False)
    """With true, features are standardised by the mean and deviation of the images that the probe is fitted on: a
    batch-norm layer without learnt scale, its statistics final from the start."""
    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the features; the learning rate falls along a cosine."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images a step."""

    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int
    ) -> ProbeResult:
        scores = {}
        for batch_norm in self.batch_norm:
            grid = [
                Combination(lr=lr, weight_decay=decay, batch_norm=batch_norm)
                for lr, decay in itertools.product(self.lrs, self.weight_decays)
            ]
            top1_H = fit_and_score(train, held_out, grid, num_classes, self.epochs, self.batch_size, seed)
            scores.update(zip(grid, top1_H, strict=True))
        chosen = max(scores, key=lambda combination: scores[combination])
        whole = Features(
            x_ND=torch.cat([train.x_ND, held_out.x_ND]), labels_N=torch.cat([train.labels_N, held_out.labels_N])
        )
        (value,) = fit_and_score(whole, test, [chosen], num_classes, self.epochs, self.batch_size, seed)
        return ProbeResult(
            probe=self.name,
            metric="top1",
            value=value,
            split="test",
            num_train_images=len(whole),
            num_split_images=len(test),
            held_out_value=scores[chosen],
            chosen={"lr": chosen.lr, "weight_decay": chosen.weight_decay, "batch_norm": chosen.batch_norm},
            grid=self._describe(chosen),
            seed=seed,
        )

    def _describe(self, chosen: Combination) -> str:
        text = (
            f"lr {_listed(self.lrs)} x weight decay {_listed(self.weight_decays)} x batch-norm "
            f"{_listed(self.batch_norm)}, {self.epochs} epochs, chosen on held-out training images"
        )
        if len(self.lrs) > 1 and chosen.lr in (min(self.lrs), max(self.lrs)):
            text += "; the chosen lr is at the grid's edge"
        return text


def _listed(values: tuple[float, ...] | tuple[bool, ...]) -> str:
    return "{" + ", ".join(f"{value:g}" if isinstance(value, float) else str(value).lower() for value in values) + "}"


def fit_and_score(
    fit: Features, score: Features, grid: list[Combination], num_classes: int, epochs: int, batch_size: int, seed: int
) -> list[float]:
    """Top-1 in percent on ``score`` of each combination (all with the same ``batch_norm``) fitted on ``fit``.

    A combination whose weights overflow scores 0.
    """
    assert len({combination.batch_norm for combination in grid}) == 1
    shift_D, scale_D = _normalisation(fit.x_ND, grid[0].batch_norm)
    x_ND = (fit.x_ND - shift_D) * scale_D
    weights_HCD, bias_HC = _sgd(x_ND, fit.labels_N, grid, num_classes, epochs, batch_size, seed)
    correct_H = torch.zeros(len(grid))
    for start in range(0, len(score), 4096):
        rows_BD = (score.x_ND[start : start + 4096] - shift_D) * scale_D
        predicted_HB = (weights_HCD @ rows_BD.T + bias_HC[..., None]).argmax(1)
        correct_H += (predicted_HB == score.labels_N[start : start + 4096]).sum(1)
    finite_H = weights_HCD.isfinite().flatten(1).all(1)
    return torch.where(finite_H, 100 * correct_H / len(score), 0.0).tolist()


def _normalisation(x_ND: Tensor, batch_norm: bool) -> tuple[Tensor, Tensor]:
    """(shift, scale): by column; or one scale for all, which brings every encoder's features to one size and so lets
    one grid of learning rates serve all of them."""
    if batch_norm:
        return x_ND.mean(0), (x_ND.var(0, correction=0) + 1e-5).rsqrt()
    size = x_ND.square().mean().sqrt().clamp(min=1e-12)
    return torch.zeros(x_ND.shape[1]), torch.full((x_ND.shape[1],), 1 / float(size))


def _sgd(
    x_ND: Tensor, labels_N: Tensor, grid: list[Combination], num_classes: int, epochs: int, batch_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights [H, C, D] and biases [H, C] after SGD with momentum on the cross-entropy, from zero, cosine to zero."""
    (N, D), H, C = x_ND.shape, len(grid), num_classes
    weights_HCD, bias_HC = torch.zeros(H, C, D), torch.zeros(H, C)
    speed_HCD, speed_HC = torch.zeros_like(weights_HCD), torch.zeros_like(bias_HC)
    lr_H = torch.tensor([combination.lr for combination in grid])
    decay_H11 = torch.tensor([combination.weight_decay for combination in grid])[:, None, None]
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, N)
    total_steps, step = epochs * (N // batch_size), 0
    for _ in range(epochs):
        order_N = torch.randperm(N, generator=generator)
        for index_B in order_N[: N // batch_size * batch_size].split(batch_size):
            rows_BD, labels_B = x_ND[index_B], labels_N[index_B]
            d_HCB = (weights_HCD.view(H * C, D) @ rows_BD.T).view(H, C, -1).add_(bias_HC[..., None]).softmax(1)
            d_HCB[:, labels_B, torch.arange(len(labels_B))] -= 1
            d_HCB /= len(labels_B)
            speed_HCD.mul_(MOMENTUM).add_((d_HCB.view(H * C, -1) @ rows_BD).view(H, C, D))
            speed_HCD.add_(decay_H11 * weights_HCD)
            speed_HC.mul_(MOMENTUM).add_(d_HCB.sum(2))
            rate_H = lr_H * (0.5 * (1 + math.cos(math.pi * step / total_steps)))
            weights_HCD -= rate_H[:, None, None] * speed_HCD
            bias_HC -= rate_H[:, None] * speed_HC
            step += 1
    return weights_HCD, bias_HC
