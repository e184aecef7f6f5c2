"""How a batch's assignments use their classes or prototypes: what an objective logs already, set against what is
possible.

Letters: C classes (or prototypes), R rows that were assigned.
"""

import math
from collections.abc import Mapping

from issl_engine.objectives.base import AssignmentMetrics


def assignment_use(metrics: Mapping[str, float], of: AssignmentMetrics, num_rows: int) -> dict[str, float]:
    """Of one batch's logged metrics: entropy (nats) of the mean assignment, its share of ln C (both 1 where all
    classes are used alike: the maximality of Dubois et al. 2022, arXiv 2209.06235), and the share of the
    min(C, R) classes that can be some row's most probable one that are."""
    entropy = math.log(metrics[of.perplexity])
    return {
        "marginal_entropy": entropy,
        "marginal_entropy_share": entropy / math.log(of.num_classes),
        "used_classes_share": metrics[of.used] / min(of.num_classes, num_rows),
    }
