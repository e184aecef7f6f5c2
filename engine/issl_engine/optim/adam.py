"""Adam with L2 regularisation: the weights' decay is added to the gradient (Kingma and Ba, 2015)."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.parameter_groups import split_by_decay

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamConfig(OptimizerConfig):
    """Adam, with weight decay as an L2 term in the gradient (the TinyImageNet recipes of DISSL and CISSL)."""

    name: Literal["adam"] = "adam"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Shares of the running means of the gradient and of its square that are kept at a step."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the mean square before the division."""

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        split = split_by_decay(parameters, no_decay=no_decay, decay_all=self.decay_all)
        return torch.optim.Adam(split.groups(self.weight_decay), lr=lr, betas=self.betas, eps=self.eps, fused=True)
