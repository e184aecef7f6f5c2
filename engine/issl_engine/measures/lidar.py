"""LiDAR: the rank of what distinguishes images, measured against how far the views of one image lie apart.

Letters: N images, V views of each, D width of the representation; R = min(N·V, D); K = min(N, R).
"""

import torch
from torch import Tensor

from issl_engine.measures.checked_features import checked_views, same_features_error, spread
from issl_engine.measures.spectrum import dimensions_in_use

WITHIN_FLOOR = 1e-4
"""delta, added to the variance within images in every direction, in squared units of the features."""


def lidar(z_NVD: Tensor, *, within_floor: float = WITHIN_FLOOR) -> float:
    """Linear Discriminant Analysis Rank, between 1 and min(N - 1, D); high where many directions distinguish images.

    Thilak et al. 2023, "LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures" (arXiv
    2312.04000): with S_b the covariance of the images' means and S_w the covariance of views around them
    plus delta·I, exp of the entropy (nats) of the eigenvalues of S_w^-½ S_b S_w^-½ over their sum. The paper takes
    N = 1000 and V = 50. The floor delta is absolute, so the value depends on the features' scale where they hardly vary
    within images. Raises Mistake for features that are all equal, and for fewer than two images or views.
    """
    z_NVD = checked_views(z_NVD)
    N, V, D = z_NVD.shape
    rows_MD = z_NVD.flatten(0, 1) - z_NVD.mean((0, 1))
    if spread(z_NVD.flatten(0, 1)) == 0:
        raise same_features_error()
    if len(rows_MD) < D:
        # Both covariances live in the rows' span: its coordinates are enough, and D x D matrices never made.
        rows_MD = torch.linalg.qr(rows_MD.T, mode="r").R.T
    z_NVR = rows_MD.unflatten(0, (N, V))
    means_NR = z_NVR.mean(1)
    around_MR = (z_NVR - means_NR[:, None]).flatten(0, 1)
    within_RR = around_MR.T @ around_MR / len(around_MR)
    within_RR.diagonal().add_(within_floor)
    factor_RR = torch.linalg.cholesky(within_RR)
    # |L^-1 m| of the means m gives S_w^-½ S_b S_w^-½'s eigenvalues: L is another square root of S_w.
    scaled_RN = torch.linalg.solve_triangular(factor_RR, means_NR.T, upper=False)
    return dimensions_in_use(torch.linalg.svdvals(scaled_RN).square())
