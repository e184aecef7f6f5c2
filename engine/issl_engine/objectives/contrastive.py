"""What contrastive objectives share: the keys of their recipes, InfoNCE over the rows of all ranks, and its metrics.

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation, P of the
projection.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.number_ranges import PositiveInt
from issl_kernels import InfoNCETerms, info_nce_with_terms


class ContrastiveConfig(ObjectiveConfig):
    """Base of the Configs of contrastive objectives: ``name`` and the logits' scale are theirs."""

    exchange: Literal["gather", "ring"] = "gather"
    """How rows of several ranks meet: gather holds those of all ranks, ring two ranks' at a time, so that memory does
    not grow with their number."""
    hidden_dim: PositiveInt = 1024
    """Width of the head's hidden layers (batch-norm, ReLU)."""
    hidden_layers: PositiveInt = 1
    """Hidden layers of the head."""
    projection_dim: PositiveInt = 128
    """Width of the head's output (batch-norm, then L2-normalised)."""

    loss_compares_embeddings: ClassVar[bool] = True


class Contrastive(Objective):
    """For the anchor (image i, view v) over all G·N targets: LSE − mean logit of image i's targets; in nats.

    A subclass has the heads and defines ``embed`` and ``compare``; its ``compare`` calls ``contrast`` or
    ``contrast_cosines``.
    """

    collapse_advice = (
        "lower objective.temperature, lower optimizer.lr, lengthen schedule.warmup_epochs or make "
        "training.global_batch_size larger"
    )

    def __init__(
        self, config: ContrastiveConfig, shape: ObjectiveShape, group: ProcessGroup | None, *, keep_self: bool
    ) -> None:
        super().__init__()
        self.keep_self = keep_self
        """Whether an anchor's own row stays among its targets."""
        self.exchange = config.exchange
        self.num_global_views = shape.num_global_views
        self.num_negatives = shape.num_global_views * (shape.global_batch_size - 1)
        self.group = group
        self.collapse_loss = uninformed_loss(shape, keep_self=keep_self)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        return self.compare(self.embed(z_VBD), progress)

    def contrast(
        self, anchors_VBP: Tensor, targets_GBP: Tensor, *, temperature: float
    ) -> tuple[Tensor, InfoNCETerms, dict[str, Tensor]]:
        """The loss (a scalar with gradient, in nats), its terms, and the metrics that every contrastive objective has.

        The metrics are detached scalars over the global batch, from the pass that made the loss.
        ``mutual_information_bound``: lower bound of I(z; M) in nats, log(#rows) − loss. ``retrieval_accuracy``: share
        of the anchors whose nearest row is a positive (of equally near ones, any: after a collapse it says nothing).
        ``negatives``: negatives per anchor.
        """
        loss, terms = info_nce_with_terms(
            anchors_VBP,
            targets_GBP,
            temperature=temperature,
            keep_self=self.keep_self,
            exchange=self.exchange,
            group=self.group,
        )
        bound = terms.mutual_information_bound
        metrics = {
            "mutual_information_bound": bound,
            "retrieval_accuracy": terms.retrieval_accuracy,
            "negatives": torch.full_like(bound, self.num_negatives),
        }
        return loss, terms, metrics

    def contrast_cosines(self, anchors_VBP: Tensor, targets_GBP: Tensor, *, temperature: float) -> ObjectiveOutput:
        """``contrast`` of unit rows, whose products are cosines: the metrics gain their means and the temperature."""
        loss, terms, metrics = self.contrast(anchors_VBP, targets_GBP, temperature=temperature)
        metrics |= {
            "temperature": torch.full_like(metrics["negatives"], temperature),
            "positive_cosine": terms.positive_similarity,
            "negative_cosine": terms.negative_similarity,
        }
        return ObjectiveOutput(loss, metrics)


def uninformed_loss(shape: ObjectiveShape, *, keep_self: bool) -> float:
    """Mean over anchors of ln(number of rows it is contrasted with): the loss when all cosines are equal, in nats.

    That is ln(G·N); without the own row (``keep_self`` False) ln(G·N − 1) for the anchors that are targets
    themselves. Such an anchor has no positive when G = 1, and does not count.
    """
    V, G = shape.num_views, shape.num_global_views
    rows = G * shape.global_batch_size
    if keep_self or G == 1:
        return math.log(rows)
    return (G * math.log(rows - 1) + (V - G) * math.log(rows)) / V
