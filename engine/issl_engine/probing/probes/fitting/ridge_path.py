"""Least squares with an L2 penalty in closed form, for a whole path of penalties from one eigendecomposition.

Letters: N images, D width, T outputs, S penalties; b images of a block, P the smaller of N and D.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from issl_engine.probing.features.features import BLOCK_ROWS, Features
from issl_engine.probing.probes.fitting.predictor import LinearOutputs
from issl_engine.probing.probes.fitting.standardise import moments

Targets = Callable[[slice], Tensor]
"""Which images → what to predict of them, float64 [b, t]."""


def ridge_path(features: Features, targets: Targets, penalties: Sequence[float], device: torch.device) -> LinearOutputs:
    """Minimises the mean squared error, summed over outputs, + penalty x the squared weights, for each penalty.

    Features are standardised, as the images here are; biases are free of the penalty. With N images the penalty is
    scikit-learn's alpha / N. Products are taken block by block and added in fp64: the smaller of the Gram matrices
    [D, D] and [N, N] is all that is held.
    """
    scale_D, offset_D = moments(features, device).standardising
    mean_T = torch.stack([targets(part).sum(0) for part in _parts(features)]).sum(0) / len(features)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for part, x_bD in features.blocks(device):
            yield torch.addcmul(offset_D, x_bD, scale_D).double(), targets(part) - mean_T

    few = len(features) < features.width
    basis_DP, values_P, products_PT = _of_images(blocks()) if few else _of_features(blocks())
    weights = [(basis_DP @ (products_PT / (values_P[:, None] + penalty * len(features)))).T for penalty in penalties]
    return LinearOutputs(
        weights_SCD=torch.stack(weights).float().contiguous(),
        bias_SC=mean_T.float().expand(len(penalties), -1).contiguous(),
        scale_G1D=scale_D[None, None],
        offset_G1D=offset_D[None, None],
    )


def _parts(features: Features) -> Iterator[slice]:
    for start in range(0, len(features), BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, len(features)))


def _of_features(blocks: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """(V [d, p], eigenvalues [p], V'X'Y [p, t]) of the Gram matrix X'X, so that weights are V (values + a)^-1 V'X'Y."""
    gram_DD, products_DT = torch.zeros(()), torch.zeros(())
    for x_bD, y_bT in blocks:
        gram_DD = gram_DD.to(x_bD) + x_bD.T @ x_bD
        products_DT = products_DT.to(x_bD) + x_bD.T @ y_bT
    values_P, basis_DP = torch.linalg.eigh(gram_DD)
    return basis_DP, values_P.clamp(min=0), basis_DP.T @ products_DT


def _of_images(blocks: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """The same by XX' [n, n], for fewer images than features: X'(XX' + a)^-1 Y = X'U (values + a)^-1 U'Y."""
    rows, outputs = zip(*blocks, strict=True)
    x_ND, y_NT = torch.cat(rows), torch.cat(outputs)
    values_P, basis_NP = torch.linalg.eigh(x_ND @ x_ND.T)
    return x_ND.T @ basis_NP, values_P.clamp(min=0), basis_NP.T @ y_NT
