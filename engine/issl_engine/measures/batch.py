"""The measures of a batch during training, of representations that the step has computed anyway.

Letters: G global views, N images, D width of the representation.
"""

from torch import Tensor

from issl_engine.measures.checked_features import spread
from issl_engine.measures.collapse import alignment, feature_std, rank_me, uniformity
from issl_engine.measures.effective_rank import effective_rank, largest_effective_rank
from issl_engine.measures.invariance import invariance


def batch_measures(z_GND: Tensor) -> dict[str, float]:
    """Measure → value, of finite representations of two images or more.

    Those of single images see the first view; alignment and invariance need two. A representation that is constant has
    a ``feature_std`` of 0 and no other value.
    """
    z_GND = z_GND.double()
    G, N, D = z_GND.shape
    x_ND = z_GND[0]
    if spread(x_ND) == 0:
        return {"feature_std": 0.0}
    rank = effective_rank(x_ND)
    measures = {
        "rank_me": rank_me(x_ND),
        "effective_rank": rank,
        "effective_rank_share": rank / largest_effective_rank(N, D),
        "feature_std": feature_std(x_ND),
        "uniformity": uniformity(x_ND),
    }
    if G > 1:
        measures["alignment"] = alignment(x_ND, z_GND[1])
        measures["invariance"] = invariance(z_GND.transpose(0, 1))
    return measures
