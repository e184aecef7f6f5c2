"""MLP probes of many binary labelings at once: one hidden layer each, trained together as batched matmuls.

Letters: N images, M judged images, d dimensions, h hidden units, L labelings, B images of a batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LR = 1e-2
"""Peak learning rate of Adam; falls along a cosine."""
VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What many MLP probes did."""

    errors_L: Tensor
    """The share of judged images that each labeling's probe gets wrong, fp64."""
    gradient_norm: float
    """The largest norm of a probe's gradient, on all fitted images, where its steps ended; in nats."""


def mlp_probes(
    fit_Nd: Tensor, labels_LN: Tensor, judged_Md: Tensor, judged_LM: Tensor, *, hidden_dim: int, steps: int, seed: int,
    batch_size: int = 128,
) -> Probed:  # fmt: skip
    """Fits an MLP per labeling and judges it on other images.

    ReLU, one hidden layer; ``steps`` steps of Adam, all labelings with
    the same batches. Features share one scale, as those of linear_probes do.
    """
    shift_d, scale = fit_Nd.mean(0), (fit_Nd.var(0, correction=0).mean() + VARIANCE_FLOOR).rsqrt()
    x_Nd, queries_Md = (fit_Nd - shift_d) * scale, (judged_Md - shift_d) * scale
    L, (N, d) = len(labels_LN), x_Nd.shape
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(L, d, hidden_dim, generator=generator) * math.sqrt(2 / d),
        torch.rand(L, 1, hidden_dim, generator=generator) * 2 - 1,
        torch.randn(L, hidden_dim, 1, generator=generator) / math.sqrt(hidden_dim),
        torch.zeros(L, 1, 1),
    ]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.Adam(weights, lr=LR)
    targets_LN = labels_LN.float()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
        index_B = torch.randint(N, (min(batch_size, N),), generator=generator)
        logits_LB = _logits(weights, x_Nd[index_B])
        # The sum over labelings: each has the gradient that it would have alone.
        loss = F.binary_cross_entropy_with_logits(logits_LB, targets_LN[:, index_B], reduction="none").mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gradient_norm = _gradient_norm(weights, x_Nd, targets_LN)
    with torch.no_grad():
        errors_L = ((_logits(weights, queries_Md) > 0) != judged_LM).double().mean(1)
    return Probed(errors_L=errors_L, gradient_norm=gradient_norm)


def _gradient_norm(weights: list[Tensor], x_Nd: Tensor, targets_LN: Tensor) -> float:
    """The largest over labelings of the norm of the mean loss's gradient."""
    loss = F.binary_cross_entropy_with_logits(_logits(weights, x_Nd), targets_LN, reduction="none").mean(1).sum()
    squares_L = sum(part.square().sum((1, 2)) for part in torch.autograd.grad(loss, weights))
    assert isinstance(squares_L, Tensor)
    return float(squares_L.max().sqrt())


def _logits(weights: list[Tensor], x_Bd: Tensor) -> Tensor:
    """[L, B]."""
    into_Ldh, shift_L1h, out_Lh1, bias_L11 = weights
    hidden_LBh = torch.relu(x_Bd @ into_Ldh + shift_L1h)
    return (hidden_LBh @ out_Lh1 + bias_L11).squeeze(2)
