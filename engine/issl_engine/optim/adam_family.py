"""What Adam and AdamW share: the moments' settings, and how the optimiser is made."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.parameter_groups import parameter_groups

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamFamilyConfig(OptimizerConfig):
    """Base of the Configs of optimisers with Adam's two moments; ``name`` is theirs."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Shares of the running means of the gradient and of its square that are kept at a step."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the mean square before the division."""

    optimizer_class: ClassVar[type[torch.optim.Adam]]

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        groups = parameter_groups(parameters, no_decay=no_decay, config=self, lr=lr)
        return self.optimizer_class(groups, lr=lr, betas=self.betas, eps=self.eps, fused=True)
