"""Stochastic gradient descent with momentum."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator

from issl_engine.mistakes import Mistake
from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.parameter_groups import parameter_groups


class SGDConfig(OptimizerConfig):
    """SGD with momentum; weight decay is an L2 term in the gradient."""

    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the running sum of gradients that is kept at a step; 0 is plain SGD."""
    nesterov: bool = False
    """Look one momentum step ahead (Nesterov)."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise Mistake("nesterov needs a momentum above 0; set momentum or leave nesterov out")
        return self

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        groups = parameter_groups(parameters, no_decay=no_decay, config=self, lr=lr)
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)
        if self.momentum:
            optimizer.register_step_pre_hook(_start_momentum)
        return optimizer


def _start_momentum(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Starts the running sums at 0, to the bit as torch does. Torch's own would stay unwritten if the first step were
    left out on the device."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None and "momentum_buffer" not in optimizer.state[weight]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
