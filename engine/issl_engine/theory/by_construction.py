"""Representations and probes that are written down, not trained: counter-examples to every weaker requirement.

Letters: C classes, L labelings, d dimensions, M judged images.
"""

import math

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake


def on_a_circle(num_classes: int) -> Tensor:
    """Classes at equal angles [C, 2]. A line parts them in C (C - 1) / 2 of the 2^(C - 1) - 1 ways, those into two
    arcs: as many as it can part any C points of a plane (Cover 1965)."""
    angles_C = 2 * math.pi * torch.arange(num_classes, dtype=torch.float64) / num_classes
    return torch.stack([angles_C.cos(), angles_C.sin()], dim=1)


def on_a_line(num_classes: int) -> Tensor:
    """Classes at equal distances [C, 1]."""
    return torch.linspace(-1, 1, num_classes, dtype=torch.float64)[:, None]


def interpolating_mlp_errors(vectors_Cd: Tensor, labelings_LC: Tensor, judged_Md: Tensor, judged_LM: Tensor) -> Tensor:
    """The share of judged images that MLPs with C - 1 hidden ReLUs get wrong, fp64 [L]; their weights are written down.

    Along a direction on which the classes differ, p_1 < ... < p_C, the network is the broken line through (p_k, +1 or
    -1): y_1 + sum_k (m_k - m_{k-1}) relu(x - p_k), with slopes m_k. So MLP probes need no more than d = 1. Raises
    Mistake where two classes have one vector.
    """
    direction_d = torch.randn(vectors_Cd.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p_C, order_C = (vectors_Cd.double() @ direction_d).sort()
    if float(p_C.diff().min()) <= 0:
        raise Mistake("two classes have one vector, so no probe tells them apart; give each class its own")
    y_LC = labelings_LC[:, order_C].double() * 2 - 1
    slopes_Lk = y_LC.diff(dim=1) / p_C.diff()
    bends_Lk = torch.cat([slopes_Lk[:, :1], slopes_Lk.diff(dim=1)], dim=1)
    hidden_Mk = torch.relu((judged_Md.double() @ direction_d)[:, None] - p_C[:-1])
    logits_LM = y_LC[:, :1] + bends_Lk @ hidden_Mk.T
    return ((logits_LM > 0) != judged_LM).double().mean(1)
