"""What a regulariser is to the training loop: the global views' representations in, a penalty out.

Letters: G global views; N images of all ranks; D width of a representation.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from issl_engine.config import Config
from issl_engine.objectives.base import ObjectiveShape


class Regularizer(nn.Module):
    """A term that is added to any objective's loss. It sees the rows of all ranks, and has no weights of its own."""

    def forward(self, rows_GND: Tensor) -> Tensor:
        """The penalty, a scalar with gradient, of representations [G, N, D] in fp32 or fp64."""
        raise AssertionError(f"{type(self).__name__} must implement forward")


class RegularizerConfig(Config):
    """Base of every regulariser's Config: its ``name`` is a Literal, its ``weight`` the published one."""

    name: str
    weight: Annotated[float, Field(gt=0)]
    """The penalty is multiplied by this and added to the loss."""
    start_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs at the start in which the penalty is logged and not added."""

    def build(self, shape: ObjectiveShape) -> Regularizer:
        """The regulariser. Raises Mistake where a forward pass holds too few images for it."""
        raise AssertionError(f"{type(self).__name__} must implement build")
