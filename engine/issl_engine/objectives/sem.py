"""SEM, simplicial embeddings (Lavoie et al. 2022, arXiv 2204.00616): BYOL through a row of small softmaxes.

Letters: V views, the first G global; B images on this rank; D width of the representation; L simplices of K numbers
each; P width of the projection.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.models.heads import LinearHead, MLPHead
from issl_engine.objectives.base import (
    Objective,
    ObjectiveOutput,
    ObjectiveShape,
    Progress,
    Readout,
)
from issl_engine.objectives.cosine_regression import agreement
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveFloat, PositiveInt
from issl_engine.ranges import Choice, LogUniform, Multiples, Range
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
    probe_temperatures: tuple[PositiveFloat, ...] = ()
    """The recipe's probes read the simplices at these temperatures in place of the representation, and held-out images
    choose one; empty for the representation, which 'issl-engine probe' reads always. The authors take 0.0001 to 10 in
    powers of ten on CIFAR-100, 1 and 1.5 on ImageNet."""
    hidden_dim: PositiveInt = 4096
    """Width of the hidden layer of projector and predictor (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 256
    """Width of the output of projector and predictor."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "temperature": LogUniform(0.1, 2),
        "num_simplices": Multiples((0.25, 0.5, 1, 2)),
        "ema_momentum": Choice((0.9, 0.97, 0.99, 0.996, 0.999)),
    }

    has_predictor: ClassVar[bool] = True

    @property
    def offers_readouts(self) -> bool:
        """Where there are ``probe_temperatures``."""
        return bool(self.probe_temperatures)

    def readouts(self, projector: nn.Module) -> list[Readout]:
        """The simplices at each of ``probe_temperatures``."""
        assert isinstance(projector, SimplicialHead), type(projector)
        return [
            Readout(module=SimplexReadout(projector, temperature), name="temperature", value=temperature)
            for temperature in self.probe_temperatures
        ]

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

    def simplices(self, x: Tensor, temperature: float | None = None) -> Tensor:
        """The embedding [..., L, K], which sums to 1 over K; in fp32 (fp64 for fp64). ``temperature`` None is that of
        training."""
        logits: Tensor = self.embedder(x)
        logits = torch.unflatten(logits.to(arithmetic_dtype(logits)), -1, (-1, self.simplex_dim))
        return (logits / (self.temperature if temperature is None else temperature)).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        projections: Tensor = self.mlp(self.simplices(x).flatten(-2))
        return projections


class SimplexReadout(nn.Module):
    """Representations [N, D] → the head's simplices at one temperature, side by side [N, L·K]."""

    def __init__(self, head: SimplicialHead, temperature: float) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature

    def forward(self, z_ND: Tensor) -> Tensor:
        return self.head.simplices(z_ND, self.temperature).flatten(-2)


class SEM(EmaObjective):
    """2 − 2·mean_{i≠j} cos(predictor(projector(z_j)), teacher_i): i global, j any other view; 0 to 4, not in nats.

    That is BYOL; the simplices are part of projector and teacher alike, as in figure 2c of the paper. Probes see the
    encoder's output, before the simplices; with ``probe_temperatures`` they see the simplices, as in the paper.

    It has no collapse alarm: a collapsed representation has loss 0. Watch ``projection_std``, which then goes to 0, and
    ``simplex_entropy``, which is ln K where no feature is chosen.
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
