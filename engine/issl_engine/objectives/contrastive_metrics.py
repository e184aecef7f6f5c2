"""What SimCLR and CISSL share: the value of their loss without information, and what they log."""

import math

import torch
from torch import Tensor

from issl_engine.objectives.base import ObjectiveShape
from issl_kernels import InfoNCETerms


def uninformed_loss(shape: ObjectiveShape, *, keep_self: bool) -> float:
    """Mean over anchors of ln(number of rows it is contrasted with): the loss when all cosines are equal, in
    nats.

    That is ln(G·N); without the own row (``keep_self`` False) ln(G·N − 1) for the anchors that are targets
    themselves. Such an anchor has no positive when G = 1, and does not count.
    """
    V, G = shape.num_views, shape.num_global_views
    rows = G * shape.global_batch_size
    if keep_self:
        return math.log(rows)
    if G == 1:
        return math.log(rows)
    return (G * math.log(rows - 1) + (V - G) * math.log(rows)) / V


def contrastive_metrics(terms: InfoNCETerms, *, temperature: float, num_negatives: int) -> dict[str, Tensor]:
    """What is logged, detached scalars over the global batch, from the pass that made the loss.

    ``mutual_information_bound``: lower bound of I(z; M) in nats, log(#rows) − loss. ``retrieval_accuracy``: share of
    the anchors whose nearest row is a positive (of equally near ones, any: after a collapse it says nothing).
    """
    bound = terms.mutual_information_bound
    return {
        "mutual_information_bound": bound,
        "retrieval_accuracy": terms.retrieval_accuracy,
        "negatives": torch.full_like(bound, num_negatives),
        "temperature": torch.full_like(bound, temperature),
        "positive_cosine": terms.positive_similarity,
        "negative_cosine": terms.negative_similarity,
    }


COLLAPSE_ADVICE = (
    "lower objective.temperature, lower optimizer.lr, lengthen schedule.warmup_epochs or make "
    "training.global_batch_size larger"
)
