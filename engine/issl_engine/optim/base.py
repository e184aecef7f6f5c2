"""What an optimiser is to a recipe."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from issl_engine.config import Config
from issl_engine.ranges import Factor, LogUniform, Range

NamedParameters = Iterable[tuple[str, nn.Parameter]]


class OptimizerConfig(Config):
    """Base of every optimiser's Config: its ``name`` is a Literal."""

    name: str
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate, for a global batch of ``lr_reference_batch`` images."""
    lr_reference_batch: Annotated[int, Field(ge=1)] | None = None
    """The peak learning rate is lr x global batch / this (linear scaling); null takes lr as it is."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    """Weight decay of convolution and linear weights; biases and norms have none unless decay_all."""
    decay_all: bool = False
    """Apply weight decay to biases and norms too, as some published recipes do."""

    search_ranges: ClassVar[Mapping[str, Range]] = {"lr": Factor(0.125, 8), "weight_decay": LogUniform(1e-8, 1e-2)}
    """Key → the values that ``issl-engine search`` tries, in every arm, unless the recipe says otherwise."""

    def peak_lr(self, global_batch_size: int) -> float:
        """The scaled peak learning rate."""
        return self.lr if self.lr_reference_batch is None else self.lr * global_batch_size / self.lr_reference_batch

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        """The optimiser over ``parameters``; names in ``no_decay`` get no weight decay.

        Its ``step`` must change neither weights nor state where its attribute ``found_inf``, if it is set, is 1 (a
        scalar on the device, else 0), and must not wait for the device: torch's are made with ``fused=True``.
        """
        raise AssertionError(f"{type(self).__name__} must implement build")
