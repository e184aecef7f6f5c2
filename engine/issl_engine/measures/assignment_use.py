"""How the assignments of a batch use the classes or prototypes: what the objective logs, against what is possible.

Letters: C classes (or prototypes), R rows that were assigned.
"""

import math
from collections.abc import Mapping

from issl_engine.objectives.base import AssignmentMetrics


def assignment_use(metrics: Mapping[str, float], of: AssignmentMetrics, num_rows: int) -> dict[str, float]:
    """Three values of one batch's logged metrics.

    ``marginal_entropy`` (nats) is that of the mean assignment. ``marginal_entropy_share`` is its share of ln C: 1 where
    all classes are used alike, the maximality of Dubois et al. 2022 (arXiv 2209.06235). ``used_classes_share`` counts
    the classes that are the most probable one of some row, as a share of the min(C, R) that can be.
    """
    entropy = math.log(metrics[of.perplexity])
    return {
        "marginal_entropy": entropy,
        "marginal_entropy_share": entropy / math.log(of.num_classes),
        "used_classes_share": metrics[of.used] / min(of.num_classes, num_rows),
    }
