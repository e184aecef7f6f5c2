"""Groups of weights that an optimiser treats in a way of their own: which weights, and how."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from issl_engine.config import Config

Kind = Literal["biases_and_norms", "predictor", "heads", "encoder"]

PREDICTOR = "predictor"
"""The module of that name in an objective is its predictor."""


def is_bias_or_norm(parameter: nn.Parameter) -> bool:
    """Biases, and gains of normalisation layers, are the parameters with at most one dimension."""
    return parameter.ndim <= 1


_IS_OF: dict[Kind, Callable[[str, nn.Parameter], bool]] = {
    "biases_and_norms": lambda name, parameter: is_bias_or_norm(parameter),
    "predictor": lambda name, parameter: name.startswith(f"objective.{PREDICTOR}."),
    "heads": lambda name, parameter: name.startswith("objective."),
    "encoder": lambda name, parameter: name.startswith("encoder."),
}


class GroupConfig(Config):
    """Weights with a learning rate or a weight decay of their own."""

    of: Kind
    """Which weights: biases_and_norms, those of every layer; predictor, the objective's; heads, all weights of the
    objective; encoder. A weight belongs to the first group of the list that it fits."""
    lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Their learning rate is that of the other weights times this."""
    follows_schedule: bool = True
    """False keeps their learning rate at its peak from the first step to the last, without warm-up and cosine."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Their weight decay at every step, with that of biases and norms among them as decay_all says; null treats them as
    the other weights. In a group of biases_and_norms it is theirs whatever decay_all says."""

    def has(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether the weight of this name, in the learner, fits."""
        return _IS_OF[self.of](name, parameter)
