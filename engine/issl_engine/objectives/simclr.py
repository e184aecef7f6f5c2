"""SimCLR (Chen et al. 2020, arXiv 2002.05709): pick the other crops of an image out of all crops of the batch.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive import Contrastive, ContrastiveConfig
from issl_engine.objectives.number_ranges import PositiveFloat
from issl_engine.ranges import LogUniform, Multiples, Range


class SimCLRConfig(ContrastiveConfig):
    """One MLP head for anchors and targets; the anchor's own row is left out of its targets."""

    name: Literal["simclr"] = "simclr"
    """Which objective this is."""
    temperature: PositiveFloat = 0.1
    """Cosines are divided by this; 0.1 was used on ImageNet, 0.07 on TinyImageNet."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "temperature": LogUniform(0.05, 0.5),
        "projection_dim": Multiples((0.5, 1, 2)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return SimCLR(self, shape, group)


class SimCLR(Contrastive):
    """Contrast within one set of unit projections: the first G views are targets, and never the anchor's own row."""

    def __init__(self, config: SimCLRConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config, shape, group, keep_self=False)
        self.temperature = config.temperature
        self.head = MLPHead(
            shape.feature_dim, config.projection_dim, hidden_dim=config.hidden_dim, hidden_layers=config.hidden_layers,
            batch_norm_out=True,
        )  # fmt: skip

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """(projections [V, B, P], normalised): anchors, and the targets among them."""
        return (l2_normalize(self.head(z_VBD)),)

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        (anchors_VBP,) = embeddings
        targets_GBP = anchors_VBP[: self.num_global_views]
        return self.contrast_cosines(anchors_VBP, targets_GBP, temperature=self.temperature)
