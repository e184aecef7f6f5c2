"""Multinomial logistic regression by L-BFGS, over a path of regularisation strengths.

Letters: N images, D width, C classes.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.base import Features, ProbeConfig, ProbeResult

NotNegative = Annotated[float, Field(ge=0)]


class LogisticProbeConfig(ProbeConfig):
    """Softmax regression on features standardised as the fitted images are, by L-BFGS."""

    name: Literal["logistic"] = "logistic"
    weight_decays: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = (1e-4, 1e-3, 1e-2, 1e-1)
    """L2 penalties of the grid: half this times the squared weights is added to the mean cross-entropy (with
    N images, an inverse strength C of 1 / (N x weight decay))."""
    max_iterations: Annotated[int, Field(ge=1)] = 100
    """Iterations of L-BFGS for each penalty; each starts from the solution of the one before."""

    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int
    ) -> ProbeResult:
        path = sorted(self.weight_decays, reverse=True)
        scores = dict(zip(path, self._path(train, held_out, path, num_classes), strict=True))
        chosen = max(path, key=lambda decay: scores[decay])
        whole = train.joined(held_out)
        value = self._path(whole, test, [decay for decay in path if decay >= chosen], num_classes)[-1]
        return ProbeResult(
            probe=self.name,
            metric="top1",
            value=value,
            split="test",
            num_train_images=len(whole),
            num_split_images=len(test),
            held_out_value=scores[chosen],
            chosen={"weight_decay": chosen},
            grid=self._describe(chosen),
            seed=seed,
        )

    def _describe(self, chosen: float) -> str:
        text = (
            f"weight decay {list(self.weight_decays)}, L-BFGS of at most {self.max_iterations} iterations, "
            "chosen on held-out training images"
        )
        if len(self.weight_decays) > 1 and chosen in (min(self.weight_decays), max(self.weight_decays)):
            text += "; the chosen weight decay is at the grid's edge"
        return text

    def _path(self, fit: Features, score: Features, path: list[float], num_classes: int) -> list[float]:
        """Top-1 in percent for each penalty, strongest first, each warm-started from the one before."""
        shift_D, scale_D = fit.x_ND.mean(0), (fit.x_ND.var(0, correction=0) + 1e-5).rsqrt()
        x_ND, queries_MD = (fit.x_ND - shift_D) * scale_D, (score.x_ND - shift_D) * scale_D
        weight_CD = torch.zeros(num_classes, x_ND.shape[1], requires_grad=True)
        bias_C = torch.zeros(num_classes, requires_grad=True)
        top1 = []
        for decay in path:
            _minimise(x_ND, fit.labels_N, weight_CD, bias_C, decay, self.max_iterations)
            predicted_M = F.linear(queries_MD, weight_CD.detach(), bias_C.detach()).argmax(1)
            top1.append(100 * (predicted_M == score.labels_N).double().mean().item())
        return top1


def _minimise(
    x_ND: Tensor, labels_N: Tensor, weight_CD: Tensor, bias_C: Tensor, decay: float, max_iterations: int
) -> None:
    optimizer = torch.optim.LBFGS([weight_CD, bias_C], max_iter=max_iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = decay / 2 * weight_CD.square().sum()
        loss = F.cross_entropy(F.linear(x_ND, weight_CD, bias_C), labels_N) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)
