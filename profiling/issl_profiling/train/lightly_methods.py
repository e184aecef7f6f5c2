"""lightly 1.6's methods: its transform, heads and loss, with the recipe's sizes. Each takes views, gives the loss.

Only what the recipe and lightly both have can be the same: the encoder, sizes, temperatures. Colours and blur are
lightly's own of the method.
"""

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from issl_engine.models.encoders.base import Encoder
from issl_engine.recipe.schema import Recipe

Views = list[Tensor]


class Method(nn.Module):
    """Encoder, heads and loss; ``after_step`` is what follows the optimiser."""

    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        self.objective: Any = recipe.objective
        self.heads: Any = import_module("lightly.models.modules.heads")
        self.losses: Any = import_module("lightly.loss")

    def after_step(self) -> None:
        pass


class SimCLR(Method):
    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        self.head = self.heads.SimCLRProjectionHead(
            encoder.dim, self.objective.hidden_dim, self.objective.projection_dim
        )
        self.loss = self.losses.NTXentLoss(temperature=self.objective.temperature)

    def forward(self, views: Views) -> Tensor:
        loss: Tensor = self.loss(*(self.head(self.encoder(view)) for view in views))
        return loss


class Decorrelation(Method):
    """Barlow Twins and VICReg."""

    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        self.head = self.heads.BarlowTwinsProjectionHead(
            encoder.dim, self.objective.hidden_dim, self.objective.projection_dim
        )
        self.loss = self.losses.BarlowTwinsLoss() if self.objective.name == "barlow_twins" else self.losses.VICRegLoss()

    def forward(self, views: Views) -> Tensor:
        loss: Tensor = self.loss(*(self.head(self.encoder(view)) for view in views))
        return loss


class SwAV(Method):
    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        objective = self.objective
        self.head = self.heads.SwaVProjectionHead(encoder.dim, objective.hidden_dim, objective.projection_dim)
        self.prototypes = self.heads.SwaVPrototypes(objective.projection_dim, objective.num_prototypes)
        self.loss = self.losses.SwaVLoss(
            temperature=objective.temperature, sinkhorn_iterations=objective.sinkhorn_iterations,
            sinkhorn_epsilon=objective.epsilon,
        )  # fmt: skip

    def forward(self, views: Views) -> Tensor:
        self.prototypes.normalize()
        scores = [self.prototypes(F.normalize(self.head(self.encoder(view)), dim=1)) for view in views]
        num_global = self.recipe.views.num_global_views
        loss: Tensor = self.loss(scores[:num_global], scores[num_global:])
        return loss


class SimSiam(Method):
    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        objective = self.objective
        self.head = self.heads.SimSiamProjectionHead(encoder.dim, objective.hidden_dim, objective.projection_dim)
        self.predictor = self.heads.SimSiamPredictionHead(
            objective.projection_dim, objective.predictor_hidden_dim, objective.projection_dim
        )
        self.loss = self.losses.NegativeCosineSimilarity()

    def forward(self, views: Views) -> Tensor:
        z = [self.head(self.encoder(view)) for view in views]
        p = [self.predictor(one) for one in z]
        loss: Tensor = 0.5 * (self.loss(p[0], z[1].detach()) + self.loss(p[1], z[0].detach()))
        return loss


class BYOL(Method):
    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        hidden, width = self.objective.hidden_dim, self.objective.projection_dim
        self.student = nn.Sequential(encoder, self.heads.BYOLProjectionHead(encoder.dim, hidden, width))
        self.predictor = self.heads.BYOLPredictionHead(width, hidden, width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.loss = self.losses.NegativeCosineSimilarity()

    def forward(self, views: Views) -> Tensor:
        p = [self.predictor(self.student(view)) for view in views]
        with torch.no_grad():
            z = [self.teacher(view) for view in views]
        loss: Tensor = 0.5 * (self.loss(p[0], z[1]) + self.loss(p[1], z[0]))
        return loss

    def after_step(self) -> None:
        update: Any = import_module("lightly.models.utils").update_momentum
        update(self.student, self.teacher, self.objective.ema_momentum)


class DINO(Method):
    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__(encoder, recipe)
        objective = self.objective

        def head() -> nn.Module:
            made: nn.Module = self.heads.DINOProjectionHead(
                encoder.dim, objective.hidden_dim, objective.bottleneck_dim, objective.num_prototypes,
                batch_norm=objective.batch_norm,
            )  # fmt: skip
            return made

        # The head is made twice: its weight norm cannot be copied.
        self.student = nn.Sequential(encoder, head())
        self.teacher = nn.Sequential(copy.deepcopy(encoder), head())
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.loss = self.losses.DINOLoss(objective.num_prototypes, student_temp=objective.student_temperature)

    def forward(self, views: Views) -> Tensor:
        with torch.no_grad():
            targets = [self.teacher(view) for view in views[: self.recipe.views.num_global_views]]
        loss: Tensor = self.loss(
            targets, [self.student(view) for view in views], epoch=self.loss.warmup_teacher_temp_epochs
        )
        return loss

    def after_step(self) -> None:
        update: Any = import_module("lightly.models.utils").update_momentum
        update(self.student, self.teacher, self.objective.ema_momentum)


METHODS: dict[str, Callable[[Encoder, Recipe], Method]] = {
    "simclr": SimCLR, "barlow_twins": Decorrelation, "vicreg": Decorrelation, "swav": SwAV, "simsiam": SimSiam,
    "byol": BYOL, "dino": DINO,
}  # fmt: skip
"""Objective → lightly's counterpart."""
MULTI_CROP = ("swav", "dino")
"""Those whose loss takes more than two views."""
