"""Linear probes of many binary labelings at once, each fitted to its optimum by Newton's method.

Letters: N images, M judged images, d dimensions, D = d + 1 with the bias; L labelings.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHT_DECAY = 1e-5
"""L2 penalty, half of it times the squared weights beside the mean loss; it only keeps separable labelings finite."""
ITERATIONS = 20
HALVINGS = 6
LABELINGS_AT_ONCE = 64
VARIANCE_FLOOR = 1e-8


def linear_errors(fit_Nd: Tensor, labels_LN: Tensor, judged_Md: Tensor, judged_LM: Tensor) -> Tensor:
    """The share of judged images that each labeling's probe gets wrong: fp64 [L].

    Logistic regression on features standardised as the fitted images are. Labels are bool. There are no
    hyper-parameters to choose, so no images are held out.
    """
    shift_d, scale_d = fit_Nd.double().mean(0), (fit_Nd.double().var(0, correction=0) + VARIANCE_FLOOR).rsqrt()
    x_ND = _with_ones((fit_Nd.double() - shift_d) * scale_d)
    queries_MD = _with_ones((judged_Md.double() - shift_d) * scale_d)
    errors = []
    for labels_lN, wanted_lM in zip(
        labels_LN.split(LABELINGS_AT_ONCE), judged_LM.split(LABELINGS_AT_ONCE), strict=True
    ):
        weights_lD = _newton(x_ND, labels_lN)
        errors.append(((weights_lD @ queries_MD.T > 0) != wanted_lM).double().mean(1))
    return torch.cat(errors)


def _with_ones(x_Nd: Tensor) -> Tensor:
    return torch.cat([x_Nd, x_Nd.new_ones(len(x_Nd), 1)], dim=1)


def _newton(x_ND: Tensor, labels_LN: Tensor) -> Tensor:
    """Weights [L, D], the bias last. A step is halved for as long as it makes the loss larger."""
    sign_LN = labels_LN.to(x_ND.dtype) * 2 - 1
    N, D = x_ND.shape
    penalty_D = torch.full((D,), WEIGHT_DECAY, dtype=x_ND.dtype)
    penalty_D[-1] = 1e-9  # the bias is free, but for what keeps the system solvable
    weights_LD = x_ND.new_zeros(len(sign_LN), D)
    loss_L = _loss(weights_LD, x_ND, sign_LN, penalty_D)
    for _ in range(ITERATIONS):
        margin_LN = sign_LN * (weights_LD @ x_ND.T)
        wrong_LN = torch.sigmoid(-margin_LN)
        gradient_LD = -(wrong_LN * sign_LN) @ x_ND / N + penalty_D * weights_LD
        curvature_LN = (wrong_LN * (1 - wrong_LN)).clamp(min=1e-12) / N
        hessian_LDD = torch.einsum("ln,nd,ne->lde", curvature_LN, x_ND, x_ND) + torch.diag(penalty_D)
        step_LD = torch.linalg.solve(hessian_LDD, gradient_LD)
        for _ in range(HALVINGS):
            tried_L = _loss(weights_LD - step_LD, x_ND, sign_LN, penalty_D)
            worse_L = tried_L > loss_L
            if not worse_L.any():
                break
            step_LD[worse_L] /= 2
        weights_LD = weights_LD - step_LD
        before_L, loss_L = loss_L, _loss(weights_LD, x_ND, sign_LN, penalty_D)
        if float((before_L - loss_L).abs().max()) < 1e-8:
            break
    return weights_LD


def _loss(weights_LD: Tensor, x_ND: Tensor, sign_LN: Tensor, penalty_D: Tensor) -> Tensor:
    """Mean logistic loss and penalty [L]."""
    margin_LN = sign_LN * (weights_LD @ x_ND.T)
    return F.softplus(-margin_LN).mean(1) + (penalty_D * weights_LD.square()).sum(1) / 2
