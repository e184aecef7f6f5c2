"""MLP probes of many binary labelings at once: one hidden layer each, trained together as batched matmuls.

Letters: N images, M judged images, d dimensions, h hidden units, L labelings, B images of a batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LR = 1e-2
"""Peak learning rate of Adam; falls along a cosine."""
VARIANCE_FLOOR = 1e-8


def mlp_errors(
    fit_Nd: Tensor, labels_LN: Tensor, judged_Md: Tensor, judged_LM: Tensor, *, hidden_dim: int, steps: int, seed: int,
    batch_size: int = 128,
) -> Tensor:  # fmt: skip
    """The share of judged images that each labeling's probe gets wrong: fp64 [L].

    ReLU, one hidden layer, features standardised as the fitted images are; ``steps`` steps of Adam, all labelings with
    the same batches.
    """
    shift_d, scale_d = fit_Nd.mean(0), (fit_Nd.var(0, correction=0) + VARIANCE_FLOOR).rsqrt()
    x_Nd, queries_Md = (fit_Nd - shift_d) * scale_d, (judged_Md - shift_d) * scale_d
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
    with torch.no_grad():
        return ((_logits(weights, queries_Md) > 0) != judged_LM).double().mean(1)


def _logits(weights: list[Tensor], x_Bd: Tensor) -> Tensor:
    """[L, B]."""
    into_Ldh, shift_L1h, out_Lh1, bias_L11 = weights
    hidden_LBh = torch.relu(x_Bd @ into_Ldh + shift_L1h)
    return (hidden_LBh @ out_Lh1 + bias_L11).squeeze(2)
