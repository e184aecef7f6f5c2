"""SimCLR (Chen et al. 2020, arXiv 2002.05709): pick the other crops of an image out of all crops of the
batch.

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation, P
of the projection.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive_metrics import COLLAPSE_ADVICE, contrastive_metrics, uninformed_loss
from issl_kernels import info_nce_with_terms


class SimCLRConfig(ObjectiveConfig):
    """One MLP head for anchors and targets; the anchor's own row is left out of its targets."""

    name: Literal["simclr"] = "simclr"
    """Which objective this is."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Cosines are divided by this; 0.1 was used on ImageNet, 0.07 on TinyImageNet."""
    exchange: Literal["gather", "ring"] = "gather"
    """How rows of several ranks meet: gather holds those of all ranks, ring two ranks' at a time, so that memory does
    not grow with their number."""
    hidden_dim: Annotated[int, Field(ge=1)] = 1024
    """Width of the head's hidden layer (batch-norm, ReLU)."""
    projection_dim: Annotated[int, Field(ge=1)] = 128
    """Width of the head's output (batch-norm, then L2-normalised)."""

    loss_compares_embeddings: ClassVar[bool] = True

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return SimCLR(self, shape, group)


class SimCLR(Objective):
    """For the anchor (image i, view v) over all G·N targets but itself: LSE − mean logit of image i's
    targets."""

    collapse_advice = COLLAPSE_ADVICE

    def __init__(self, config: SimCLRConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.exchange = config.exchange
        self.num_global_views = shape.num_global_views
        self.num_negatives = shape.num_global_views * (shape.global_batch_size - 1)
        self.group = group
        self.uninformed_loss = self.collapse_loss = uninformed_loss(shape, keep_self=False)
        self.head = MLPHead(shape.feature_dim, config.projection_dim, hidden_dim=config.hidden_dim, batch_norm_out=True)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        return self.compare(self.embed(z_VBD), progress)

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """(projections [V, B, P], normalised): anchors, and the targets among them."""
        return (l2_normalize(self.head(z_VBD)),)

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        (anchors_VBP,) = embeddings
        loss, terms = info_nce_with_terms(
            anchors_VBP,
            anchors_VBP[: self.num_global_views],
            temperature=self.temperature,
            keep_self=False,
            exchange=self.exchange,
            group=self.group,
        )
        metrics = contrastive_metrics(terms, temperature=self.temperature, num_negatives=self.num_negatives)
        return ObjectiveOutput(loss, metrics)
