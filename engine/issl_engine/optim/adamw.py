"""AdamW: weight decay that does not pass through Adam's moments (Loshchilov and Hutter, 2019)."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.parameter_groups import split_by_decay

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay: a step shrinks the weights by learning rate x weight_decay."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Shares of the running means of the gradient and of its square that are kept at a step."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the mean square before the division."""

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        split = split_by_decay(parameters, no_decay=no_decay, decay_all=self.decay_all)
        return torch.optim.AdamW(split.groups(self.weight_decay), lr=lr, betas=self.betas, eps=self.eps, fused=True)
