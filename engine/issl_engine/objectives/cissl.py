"""CISSL (Dubois et al. 2022, arXiv 2209.06235): contrastive, with a student head that is a linear probe's.

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation, P
of the projection.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import LinearHead, MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive_metrics import COLLAPSE_ADVICE, contrastive_metrics, uninformed_loss
from issl_kernels import info_nce_with_terms


class CISSLConfig(ObjectiveConfig):
    """Student and teacher have a head each, and an anchor's own row stays among its targets."""

    name: Literal["cissl"] = "cissl"
    """Which objective this is."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Cosines are divided by this."""
    exchange: Literal["gather", "ring"] = "gather"
    """How rows of several ranks meet: gather holds those of all ranks, ring two ranks' at a time, so that memory does
    not grow with their number."""
    student_head: Literal["linear", "mlp"] = "linear"
    """The student's head: take the architecture of the probe that the representation is meant for."""
    hidden_dim: Annotated[int, Field(ge=1)] = 1024
    """Width of an MLP head's hidden layer (batch-norm, ReLU)."""
    projection_dim: Annotated[int, Field(ge=1)] = 128
    """Width of both heads' outputs (batch-norm, then L2-normalised)."""

    loss_compares_embeddings: ClassVar[bool] = True

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return CISSL(self, shape, group)


class CISSL(Objective):
    """For the anchor (image i, view v) over all G·N targets: LSE − mean logit of image i's G targets."""

    collapse_advice = COLLAPSE_ADVICE

    def __init__(self, config: CISSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.exchange = config.exchange
        self.num_global_views = shape.num_global_views
        self.num_negatives = shape.num_global_views * (shape.global_batch_size - 1)
        self.group = group
        self.uninformed_loss = self.collapse_loss = uninformed_loss(shape, keep_self=True)
        dims = (shape.feature_dim, config.projection_dim)
        self.student_head = (
            LinearHead(*dims, batch_norm_out=True)
            if config.student_head == "linear"
            else MLPHead(*dims, hidden_dim=config.hidden_dim, batch_norm_out=True)
        )
        self.teacher_head = MLPHead(*dims, hidden_dim=config.hidden_dim, batch_norm_out=True)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        return self.compare(self.embed(z_VBD), progress)

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """(anchors [V, B, P], targets [G, B, P]), normalised."""
        anchors_VBP = l2_normalize(self.student_head(z_VBD))
        return anchors_VBP, l2_normalize(self.teacher_head(z_VBD[: self.num_global_views]))

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        anchors_VBP, targets_GBP = embeddings
        loss, terms = info_nce_with_terms(
            anchors_VBP,
            targets_GBP,
            temperature=self.temperature,
            keep_self=True,
            exchange=self.exchange,
            group=self.group,
        )
        metrics = contrastive_metrics(terms, temperature=self.temperature, num_negatives=self.num_negatives)
        return ObjectiveOutput(loss, metrics)
