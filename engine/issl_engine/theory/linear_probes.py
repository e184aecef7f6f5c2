"""Linear probes of many binary labelings at once, each fitted to its optimum by Newton's method, with a bound on what
is missing to the optimum.

The loss F of a probe is the mean logistic loss plus half the sum over weights of penalty x weight^2. F is therefore
strongly convex in the norm that the penalties p weigh, and F(w) - min F <= 1/2 sum_d g_d^2 / p_d with its gradient g:
a bound that is computed, not assumed (Boyd and Vandenberghe 2004, Convex Optimization, section 9.1.2). Where the bias
has no gradient left it is the duality gap |g|^2 / (2 p).

Letters: N images, M judged images, d dimensions, D = d + 1 with the bias; L labelings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_engine.mistakes import Mistake

WEIGHT_DECAY = 1e-5
"""L2 penalty, half of it times the squared weights beside the mean loss; it only keeps separable labelings finite."""
BIAS_DECAY = 1e-9
"""The bias is free, but for what keeps the system solvable."""
LARGEST_GAP = 1e-6
"""Nats. A probe counts as converged when its loss is within this of the optimum."""
WANTED_GAP = 1e-8
"""Nats. Newton's steps end here; below about 1e-10 rounding decides."""
ITERATIONS = 200
HALVINGS = 30
LABELINGS_AT_ONCE = 64
VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What many linear probes say of the judged images."""

    logits_LM: Tensor
    """fp64; above zero the label is true."""
    gap: float
    """Nats: no probe's loss is further than this above its optimum."""

    def errors(self, judged_LM: Tensor) -> Tensor:
        """The share of judged images that each labeling's probe gets wrong: fp64 [L]."""
        return ((self.logits_LM > 0) != judged_LM).double().mean(1)


def linear_probes(
    fit_Nd: Tensor, labels_LN: Tensor, judged_Md: Tensor, *, weight_decay: float = WEIGHT_DECAY
) -> Scored:
    """Fits a logistic regression per labeling and scores other images.

    Labels are bool. Features are centred on the fitted images and divided by one number, the root of the mean variance
    of a feature: so a rotation of the representation changes nothing. There are no hyper-parameters to choose, so no
    images are held out. Raises Mistake where a probe does not come within LARGEST_GAP of its optimum.
    """
    fit_Nd, judged_Md = fit_Nd.double(), judged_Md.double()
    shift_d = fit_Nd.mean(0)
    scale = (fit_Nd.var(0, correction=0).mean() + VARIANCE_FLOOR).rsqrt()
    x_ND, queries_MD = (_with_ones((part - shift_d) * scale) for part in (fit_Nd, judged_Md))
    logits, gap = [], 0.0
    for labels_lN in labels_LN.split(LABELINGS_AT_ONCE):
        weights_lD, gap_l = _newton(x_ND, labels_lN, weight_decay)
        logits.append(weights_lD @ queries_MD.T)
        gap = max(gap, float(gap_l.max()))
    if not gap <= LARGEST_GAP:
        raise Mistake(
            f"a linear probe stopped {gap:.1e} nats above its optimum, more than the {LARGEST_GAP:g} that count as "
            "converged; the representation may hold infinite values: lower pretraining.lr"
        )
    return Scored(logits_LM=torch.cat(logits), gap=gap)


def _with_ones(x_Nd: Tensor) -> Tensor:
    return torch.cat([x_Nd, x_Nd.new_ones(len(x_Nd), 1)], dim=1)


def _newton(x_ND: Tensor, labels_LN: Tensor, weight_decay: float) -> tuple[Tensor, Tensor]:
    """Weights [L, D], the bias last, and each one's bound on the loss above its optimum [L], in nats. A step is halved
    for as long as it makes the loss larger."""
    sign_LN = labels_LN.to(x_ND.dtype) * 2 - 1
    N, D = x_ND.shape
    penalty_D = torch.full((D,), weight_decay, dtype=x_ND.dtype)
    penalty_D[-1] = BIAS_DECAY
    weights_LD = x_ND.new_zeros(len(sign_LN), D)
    loss_L = _loss(weights_LD, x_ND, sign_LN, penalty_D)
    for _ in range(ITERATIONS):
        wrong_LN = torch.sigmoid(-sign_LN * (weights_LD @ x_ND.T))
        gradient_LD = -(wrong_LN * sign_LN) @ x_ND / N + penalty_D * weights_LD
        gap_L = (gradient_LD.square() / penalty_D).sum(1) / 2
        if float(gap_L.max()) <= WANTED_GAP:
            break
        curvature_LN = (wrong_LN * (1 - wrong_LN)) / N
        hessian_LDD = torch.einsum("ln,nd,ne->lde", curvature_LN, x_ND, x_ND) + torch.diag(penalty_D)
        step_LD = torch.linalg.solve(hessian_LDD, gradient_LD)
        for _ in range(HALVINGS):
            worse_L = _loss(weights_LD - step_LD, x_ND, sign_LN, penalty_D) > loss_L
            if not worse_L.any():
                break
            step_LD[worse_L] /= 2
        weights_LD = weights_LD - step_LD
        loss_L = _loss(weights_LD, x_ND, sign_LN, penalty_D)
    return weights_LD, gap_L


def _loss(weights_LD: Tensor, x_ND: Tensor, sign_LN: Tensor, penalty_D: Tensor) -> Tensor:
    """Mean logistic loss and penalty [L]."""
    margin_LN = sign_LN * (weights_LD @ x_ND.T)
    return F.softplus(-margin_LN).mean(1) + (penalty_D * weights_LD.square()).sum(1) / 2
