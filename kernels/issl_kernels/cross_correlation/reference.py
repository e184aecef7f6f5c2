"""The definition of the Barlow Twins loss in plain torch, the whole matrix at once. Use it in fp64."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import gather_rows
from issl_kernels.cross_correlation.standardise import EPSILON
from issl_kernels.precision import widened


def cross_correlation_reference(
    a_ND: Tensor, b_ND: Tensor, *, off_diagonal_weight: float, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.cross_correlation``."""
    a_ND, b_ND = widened(a_ND, b_ND)
    a_MD, b_MD = (_standard(gather_rows(x_ND, group)) for x_ND in (a_ND, b_ND))
    C_DD = a_MD.T @ b_MD / len(a_MD)
    diagonal_D = C_DD.diagonal()
    off_diagonal = C_DD.square().sum() - diagonal_D.square().sum()
    return (1 - diagonal_D).square().sum() + off_diagonal_weight * off_diagonal


def _standard(x_MD: Tensor) -> Tensor:
    return (x_MD - x_MD.mean(0)) / torch.sqrt(x_MD.var(0, correction=0) + EPSILON)
