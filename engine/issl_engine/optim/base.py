"""What an optimiser is to a recipe."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.optim.group_config import GroupConfig
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
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    """Weight decay at the end of the run, to which it goes from weight_decay along half a cosine, as in DINO's runs of
    vision transformers (0.04 to 0.4); null keeps weight_decay."""
    decay_all: bool = False
    """Apply weight decay to biases and norms too, as some published recipes do."""
    groups: tuple[GroupConfig, ...] = ()
    """Weights with a learning rate or a weight decay of their own, such as [{of: biases_and_norms, lr_factor: 0.024}]
    for Barlow Twins and [{of: predictor, follows_schedule: false}] for SimSiam."""

    @model_validator(mode="after")
    def _groups_differ(self) -> Self:
        kinds = [group.of for group in self.groups]
        if len(set(kinds)) != len(kinds):
            raise Mistake(f"groups must be of different weights, not {kinds}; leave out all but one of each")
        return self

    search_ranges: ClassVar[Mapping[str, Range]] = {"lr": Factor(0.125, 8), "weight_decay": LogUniform(1e-8, 1e-2)}
    """Key → the values that ``issl-engine search`` tries, in every arm, unless the recipe says otherwise."""

    def peak_lr(self, global_batch_size: int) -> float:
        """The scaled peak learning rate."""
        return self.lr if self.lr_reference_batch is None else self.lr * global_batch_size / self.lr_reference_batch

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> torch.optim.Optimizer:
        """The optimiser over ``parameters``, by their names in the learner; names in ``no_decay`` get no weight decay.
        ``lr`` is the peak learning rate. Its groups are those of ``parameter_groups``, whose rates are set before each
        step (``rates.py``). Raises Mistake for a group that no weight is left for.

        Its ``step`` must change neither weights nor state where its attribute ``found_inf``, if it is set, is 1 (a
        scalar on the device, else 0), and must not wait for the device: torch's are made with ``fused=True``.
        """
        raise AssertionError(f"{type(self).__name__} must implement build")
