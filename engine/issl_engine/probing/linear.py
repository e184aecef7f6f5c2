"""The linear probe: a whole grid of hyper-parameters trained together as one batched matmul.

Letters: N images, D width, C classes, B images of a batch; S combinations of the grid, in G groups that see
the features normalised in the same way.
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
VARIANCE_FLOOR = 1e-5
"""Added to each feature's variance, as batch-norm does."""
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
    """Images a step."""

    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int
    ) -> ProbeResult:
        points = itertools.product(self.batch_norm, self.lrs, self.weight_decays)
        # A value given twice is one value.
        grid = list(
            dict.fromkeys(Combination(batch_norm=norm, lr=lr, weight_decay=decay) for norm, lr, decay in points)
        )
        top1_S = fit_and_score(train, held_out, grid, num_classes, self.epochs, self.batch_size, seed)
        scores = dict(zip(grid, top1_S, strict=True))
        chosen = max(grid, key=lambda combination: scores[combination])
        whole = train.joined(held_out)
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
        decays = self.weight_decays
        # Nothing lies below a weight decay of 0, so that end is no edge.
        if len(decays) > 1 and chosen.weight_decay > 0 and chosen.weight_decay in (min(decays), max(decays)):
            text += "; the chosen weight decay is at the grid's edge"
        return text


def _listed(values: tuple[float, ...] | tuple[bool, ...]) -> str:
    words = (str(value).lower() if isinstance(value, bool) else f"{value:g}" for value in values)
    return "{" + ", ".join(words) + "}"


def fit_and_score(
    fit: Features, score: Features, grid: list[Combination], num_classes: int, epochs: int, batch_size: int,
    seed: int,
) -> list[float]:  # fmt: skip
    """Top-1 in percent on ``score`` of each combination fitted on ``fit``.

    Combinations of one ``batch_norm`` lie together in ``grid`` and are equally many. One whose weights
    overflow scores 0.
    """
    kinds = list(dict.fromkeys(combination.batch_norm for combination in grid))
    G = len(kinds)
    assert [c.batch_norm for c in grid] == [kind for kind in kinds for _ in range(len(grid) // G)]
    norms = [_normalisation(fit.x_ND, batch_norm) for batch_norm in kinds]
    scale_G1D = torch.stack([scale_D for scale_D, _ in norms])[:, None]
    offset_G1D = torch.stack([offset_D for _, offset_D in norms])[:, None]
    weights_SCD, bias_SC = fit_grid(
        fit, scale_G1D, offset_G1D, grid,
        num_classes=num_classes, epochs=epochs, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    correct_S = torch.zeros(len(grid))
    for start in range(0, len(score), 4096):
        rows_GBD = torch.addcmul(offset_G1D, score.x_ND[start : start + 4096], scale_G1D)
        predicted_SB = _logits(weights_SCD, bias_SC, rows_GBD).argmax(1)
        correct_S += (predicted_SB == score.labels_N[start : start + 4096]).sum(1)
    finite_S = weights_SCD.isfinite().flatten(1).all(1)
    return torch.where(finite_S, 100 * correct_S.double() / len(score), 0.0).tolist()


def _normalisation(x_ND: Tensor, batch_norm: bool) -> tuple[Tensor, Tensor]:
    """(scale [D], offset [D]) such that the probe sees x * scale + offset."""
    if batch_norm:
        scale_D = (x_ND.var(0, correction=0) + VARIANCE_FLOOR).rsqrt()
        return scale_D, -x_ND.mean(0) * scale_D
    size = float(torch.linalg.vector_norm(x_ND)) / math.sqrt(x_ND.numel())
    return torch.full((x_ND.shape[1],), 1 / max(size, 1e-12)), torch.zeros(x_ND.shape[1])


def fit_grid(
    fit: Features, scale_G1D: Tensor, offset_G1D: Tensor, grid: list[Combination], *, num_classes: int,
    epochs: int, batch_size: int, seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weights [S, C, D] and biases [S, C] after SGD with momentum on the cross-entropy.

    They start at zero, and the learning rates fall along a cosine to zero; weight decay is added to the
    gradient and leaves the biases alone. Each step gathers one batch and does two matmuls for all
    combinations, so all see the batches in one order. The incomplete last batch of an epoch is left out.
    Batches are normalised as they come: a normalised copy of all features would double the memory.
    """
    N, S, G = len(fit), len(grid), len(scale_G1D)
    C, D = num_classes, fit.x_ND.shape[1]
    weights_SCD, bias_SC = torch.zeros(S, C, D), torch.zeros(S, C)
    speed_SCD, speed_SC = torch.zeros_like(weights_SCD), torch.zeros_like(bias_SC)
    lr_S1 = torch.tensor([combination.lr for combination in grid])[:, None]
    decay_S11 = torch.tensor([combination.weight_decay for combination in grid])[:, None, None]
    generator = torch.Generator().manual_seed(seed)
    B = min(batch_size, N)
    position_B = torch.arange(B)
    steps_per_epoch = N // B
    for step in range(epochs * steps_per_epoch):
        within = step % steps_per_epoch
        if within == 0:
            order_N = torch.randperm(N, generator=generator)
        index_B = order_N[within * B : (within + 1) * B]
        rows_GBD = torch.addcmul(offset_G1D, fit.x_ND.index_select(0, index_B), scale_G1D)
        # The gradient of the mean cross-entropy with respect to the logits: (softmax - one-hot) / B.
        d_SCB = _logits(weights_SCD, bias_SC, rows_GBD).softmax(1)
        d_SCB[:, fit.labels_N[index_B], position_B] -= 1
        d_SCB /= B
        speed_SCD.mul_(MOMENTUM).add_(decay_S11 * weights_SCD)
        speed_SCD.view(G, -1, D).baddbmm_(d_SCB.view(G, -1, B), rows_GBD)
        speed_SC.mul_(MOMENTUM).add_(d_SCB.sum(2))
        rate_S1 = lr_S1 * (0.5 * (1 + math.cos(math.pi * step / (epochs * steps_per_epoch))))
        weights_SCD -= rate_S1[..., None] * speed_SCD
        bias_SC -= rate_S1 * speed_SC
    return weights_SCD, bias_SC


def _logits(weights_SCD: Tensor, bias_SC: Tensor, rows_GBD: Tensor) -> Tensor:
    """[S, C, B]: each group's weights on that group's rows, one batched matmul."""
    S, C, D = weights_SCD.shape
    G, B, _ = rows_GBD.shape
    product = torch.bmm(weights_SCD.view(G, -1, D), rows_GBD.transpose(1, 2))
    return product.view(S, C, B).add_(bias_SC[..., None])
