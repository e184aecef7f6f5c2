"""SEM, simplicial embeddings (Lavoie et al. 2022, arXiv 2204.00616): BYOL through a row of small softmaxes.

Letters: V views, the first G global; B images on this rank; D width of the representation; L simplices of K numbers
each; P width of the projection.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.models.heads import LinearHead, MLPHead
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.cosine_regression import agreement
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveFloat, PositiveInt
from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.precision import arithmetic_dtype


class SEMConfig(EmaObjectiveConfig):
    """BYOL with simplicial embeddings between encoder and projector, which induce groups of sparse features."""

    name: Literal["sem"] = "sem"
    """Which objective this is."""
    num_simplices: PositiveInt = 5000
    """Simplices L, each a softmax of its own; 5000 for a ResNet-18 on CIFAR-100."""
    simplex_dim: Annotated[int, Field(ge=2)] = 13
    """Numbers K of one simplex."""
    temperature: PositiveFloat = 1.0
    """The simplices' logits (linear, batch-norm) are divided by this; the lower, the sparser."""
    ema_momentum: Momentum = 0.99
    """Share of the teacher's weights that is kept at the first step; rises to 1 along a cosine."""
    hidden_dim: PositiveInt = 4096
    """Width of the hidden layer of projector and predictor (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 256
    """Width of the output of projector and predictor."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        return SEM(self, shape, group)


class SimplicialHead(nn.Module):
    """[..., D] → linear, batch-norm → L softmaxes over K numbers, side by side → MLP → [..., P]."""

    def __init__(self, config: SEMConfig, feature_dim: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.simplex_dim = config.simplex_dim
        width = config.num_simplices * config.simplex_dim
        self.embedder = LinearHead(feature_dim, width, batch_norm_out=True)
        self.mlp = MLPHead(width, config.projection_dim, hidden_dim=config.hidden_dim)

    def simplices(self, x: Tensor) -> Tensor:
        """The embedding [..., L, K], which sums to 1 over K; in fp32 (fp64 for fp64)."""
        logits: Tensor = self.embedder(x)
        logits = torch.unflatten(logits.to(arithmetic_dtype(logits)), -1, (-1, self.simplex_dim))
        return (logits / self.temperature).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        projections: Tensor = self.mlp(self.simplices(x).flatten(-2))
        return projections


class SEM(EmaObjective):
    """2 − 2·mean_{i≠j} cos(predictor(projector(z_j)), teacher_i): i global, j any other view; 0 to 4, not in nats.

    That is BYOL; the simplices are part of projector and teacher alike, as in figure 2c of the paper. Probes see the
    encoder's output, before the simplices. It has no collapse alarm: a collapsed representation has loss 0. Watch
    ``projection_std``, which then goes to 0, and ``simplex_entropy``, which is ln K where no feature is chosen.
    """

    projector: SimplicialHead

    def __init__(self, config: SEMConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config.ema_momentum)
        self.group = group
        self.projector = SimplicialHead(config, shape.feature_dim)
        self.predictor = MLPHead(config.projection_dim, config.projection_dim, hidden_dim=config.hidden_dim)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None, "SEM needs the EMA teacher's projection"
        simplices_VBLK = self.projector.simplices(z_VBD)
        projections_VBP = self.projector.mlp(simplices_VBLK.flatten(-2))
        cosine, metrics = agreement(self.predictor(projections_VBP), teacher_GBP, self.group)
        return ObjectiveOutput(2 - 2 * cosine, metrics | {"simplex_entropy": self._entropy(simplices_VBLK)})

    @torch.no_grad()
    def _entropy(self, simplices_VBLK: Tensor) -> Tensor:
        """Mean entropy per simplex, over views and the images of all ranks, in nats."""
        own = torch.special.entr(simplices_VBLK.detach()).sum(-1).mean()
        return all_reduce_sum_(own, self.group) / world_size(self.group)
