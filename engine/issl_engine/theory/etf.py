"""The simplex equiangular tight frame: what an optimal representation of C classes is for linear probes.

Letters: C classes, d dimensions, N images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake


def simplex_etf(num_classes: int) -> Tensor:
    """C unit vectors [C, C - 1], fp64, of which any two have the cosine -1 / (C - 1).

    The corners of the regular simplex, e_c - 1/C, in an orthonormal basis of the space that they span (Dubois et al.
    2022, arXiv 2209.06235). Raises Mistake for fewer than 2 classes.
    """
    if num_classes < 2:
        raise Mistake(f"a simplex ETF has at least 2 classes, not {num_classes}; give more classes")
    centred_CC = torch.eye(num_classes, dtype=torch.float64) - 1 / num_classes
    # The basis is what QR makes of the first C - 1 corners, which are linearly independent.
    basis_Cd, _ = torch.linalg.qr(centred_CC[:, : num_classes - 1])
    corners_Cd = centred_CC @ basis_Cd
    unit_Cd: Tensor = corners_Cd / corners_Cd.norm(dim=1, keepdim=True)
    return unit_Cd


def rotated(vectors_Cd: Tensor, seed: int) -> Tensor:
    """The vectors [C, d] turned by a random orthogonal map of their space (Haar measure), the same for equal seeds.

    The theory says nothing of axes. simplex_etf's lie along single classes, as those of QR do, and whatever treats
    features one by one (a scale per feature, a penalty of single weights) would read labels off them.
    """
    width = vectors_Cd.shape[1]
    generator = torch.Generator().manual_seed(seed)
    basis_dd, triangle_dd = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    turned_Cd: Tensor = vectors_Cd.double() @ (basis_dd * triangle_dd.diagonal().sign())
    return turned_Cd


def projected_etf(num_classes: int, dim: int, seed: int) -> Tensor:
    """The rotated ETF's vectors in ``dim`` of their dimensions [C, dim]: a random projection, or all of it turned
    within ``dim`` dimensions where there are more than C - 1."""
    vectors_Cd = simplex_etf(num_classes)
    padded = torch.nn.functional.pad(vectors_Cd, (0, max(0, dim - vectors_Cd.shape[1])))
    return rotated(padded, seed)[:, :dim]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How far a representation is from a simplex ETF; cosines after centring on the mean of the class means.

    Of an ETF: within 1, between_mean and between_max -1 / (C - 1).
    """

    within: float
    """Mean cosine of two images of one class."""
    between_mean: float
    """Mean cosine of the means of two classes."""
    between_max: float
    """Largest cosine of the means of two classes."""


def geometry(x_Nd: Tensor, class_N: Tensor) -> Geometry:
    """The geometry of representations [N, d] with classes [N]. Each class has at least two images."""
    num_classes = int(class_N.max()) + 1
    x_Nd = x_Nd.double()
    means_Cd = torch.stack([x_Nd[class_N == c].mean(0) for c in range(num_classes)])
    centre_d = means_Cd.mean(0)
    unit_Cd = torch.nn.functional.normalize(means_Cd - centre_d, dim=1)
    unit_Nd = torch.nn.functional.normalize(x_Nd - centre_d, dim=1)
    within = []
    for c in range(num_classes):
        rows = unit_Nd[class_N == c]
        count = len(rows)
        # |sum of rows|^2 is the sum of all cosines, with the rows' own: count of them are 1.
        within.append((rows.sum(0).square().sum() - rows.square().sum()) / (count * (count - 1)))
    cosine_CC = unit_Cd @ unit_Cd.T
    pairs = cosine_CC[~torch.eye(num_classes, dtype=torch.bool)]
    return Geometry(
        within=float(torch.stack(within).mean()), between_mean=float(pairs.mean()), between_max=float(pairs.max())
    )
