"""The loss that an objective has on the simplex ETF of M(X): the optimum that training is measured against.

Both heads are ideal too, so the value depends only on how often each class is in the batch. Of DISSL it is the lowest
that any representation can have that is invariant, and its heads are free; of CISSL and SimCLR it is the lowest of all
whose rows are equal within a class. A contrastive loss can be lower: of several images of one class in a batch it
rewards telling the own row from the others, which is against invariance.

Letters: C equivalence classes; B images of a batch, each with two views; n images of an anchor's class.
"""

import math

import torch
from torch import Tensor

from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.objectives.cissl import CISSLConfig
from issl_engine.objectives.dissl import DISSLConfig
from issl_engine.objectives.simclr import SimCLRConfig

IdealConfig = CISSLConfig | SimCLRConfig | DISSLConfig


def has_ideal_loss(objective: ObjectiveConfig) -> bool:
    """Whether ideal_loss knows this objective's optimum."""
    return isinstance(objective, IdealConfig)


def ideal_loss(objective: IdealConfig, class_B: Tensor, num_classes: int) -> float:
    """Nats: the loss of a batch of two views each, of images with these classes (int64 [B])."""
    counts_C = torch.bincount(class_B, minlength=num_classes).double()
    if isinstance(objective, DISSLConfig):
        return _dissl(objective, counts_C)
    own = 1 if isinstance(objective, CISSLConfig) else 0  # SimCLR leaves out the anchor's own row
    return _contrastive(counts_C, objective.temperature, own_row=own)


def _contrastive(counts_C: Tensor, temperature: float, *, own_row: int) -> float:
    """Mean over anchors of ln(sum over rows of exp(cos / t)) - 1 / t, with the ETF's cosines.

    Among representations of M(X) alone it is the optimum in expectation over exchangeable classes. The loss is convex
    in the cosines, so their means p (one class) and q (two classes) do no worse; it falls with p - q alone; and p - q
    is at most C / (C - 1), which two equal ETFs reach.
    """
    num_classes = len(counts_C)
    other = math.exp(-1 / (num_classes - 1) / temperature - 1 / temperature)  # relative to the own class's rows
    rows_C = 2 * counts_C - (1 - own_row) + (2 * counts_C.sum() - 2 * counts_C) * other
    present = counts_C > 0
    return float((counts_C[present] * rows_C[present].log()).sum() / counts_C.sum())


def _dissl(objective: DISSLConfig, counts_C: Tensor) -> float:
    """-(lambda - 1 - beta) H - (1 + beta) I, with H the entropy of the heads' marginal and I what they say of M(X).

    Each of the C classes has K / C of the K outputs to itself and spreads evenly over them, or if lambda < 1 + beta
    takes one. So I is the entropy of M(X) in the batch, and H that plus ln(K / C). With fewer outputs than classes the
    optimum is not known in closed form.
    """
    shares = counts_C / counts_C.sum()
    entropy = float(torch.special.entr(shares).sum())
    spread = math.log(objective.num_classes / len(counts_C)) if _spreads(objective) else 0.0
    conditional = spread * (1 + objective.invariance_weight)
    return conditional - objective.entropy_weight * (entropy + spread)


def _spreads(objective: DISSLConfig) -> bool:
    return objective.entropy_weight > 1 + objective.invariance_weight
