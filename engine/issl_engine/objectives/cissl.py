"""CISSL (Dubois et al. 2022, arXiv 2209.06235): contrastive, with a student head that is a linear probe's.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import LinearHead, LinearInit, MLPHead, init_projections, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive import Contrastive, ContrastiveConfig
from issl_engine.objectives.number_ranges import PositiveFloat, PositiveInt
from issl_engine.ranges import LogUniform, Multiples, Range


class CISSLConfig(ContrastiveConfig):
    """Student and teacher have a head each, and an anchor's own row stays among its targets."""

    name: Literal["cissl"] = "cissl"
    """Which objective this is."""
    temperature: PositiveFloat = 0.07
    """Cosines are divided by this; 0.07 was used on TinyImageNet, 0.1 on ImageNet."""
    student_head: Literal["linear", "mlp"] = "linear"
    """The student's head: take the architecture of the probe that the representation is meant for."""
    keep_own_row: bool = True
    """With true, the teacher's row of the anchor's own view is a target too and a positive, as in the paper; with false
    it is left out, as SimCLR leaves it out. This key and student_head tell the two differences from SimCLR apart."""
    hidden_dim: PositiveInt = 1024
    """Width of an MLP head's hidden layers (batch-norm, ReLU); 2048 was used on ImageNet."""
    hidden_layers: PositiveInt = 1
    """Hidden layers of an MLP head; 2 on ImageNet."""
    init: LinearInit = "linear"
    """How those layers of both heads start that have fewer outputs than inputs: linear, as torch's linear layers do;
    johnson_lindenstrauss, as random projections (normal, variance 1 / outputs), used on ImageNet."""
    projection_dim: PositiveInt = 128
    """Width of both heads' outputs (batch-norm, then L2-normalised)."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "temperature": LogUniform(0.05, 0.5),
        "projection_dim": Multiples((0.5, 1, 2)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return CISSL(self, shape, group)


class CISSL(Contrastive):
    """Contrast of the student's unit projections of all views with the teacher's of the global ones, all G·N."""

    def __init__(self, config: CISSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config, shape, group, keep_self=config.keep_own_row)
        self.temperature = config.temperature
        dims = (shape.feature_dim, config.projection_dim)
        self.student_head = (
            LinearHead(*dims, batch_norm_out=True)
            if config.student_head == "linear"
            else _mlp(config, shape.feature_dim)
        )
        self.teacher_head = _mlp(config, shape.feature_dim)
        if config.init == "johnson_lindenstrauss":
            init_projections(self)

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """(anchors [V, B, P], targets [G, B, P]), normalised."""
        anchors_VBP = l2_normalize(self.student_head(z_VBD))
        return anchors_VBP, l2_normalize(self.teacher_head(z_VBD[: self.num_global_views]))

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        anchors_VBP, targets_GBP = embeddings
        return self.contrast_cosines(anchors_VBP, targets_GBP, temperature=self.temperature)


def _mlp(config: CISSLConfig, feature_dim: int) -> MLPHead:
    return MLPHead(
        feature_dim, config.projection_dim, hidden_dim=config.hidden_dim, hidden_layers=config.hidden_layers,
        batch_norm_out=True,
    )  # fmt: skip
