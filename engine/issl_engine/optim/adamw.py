"""AdamW: weight decay that does not pass through Adam's moments (Loshchilov and Hutter, 2019)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch

from issl_engine.optim.adam_family import AdamFamilyConfig
from issl_engine.ranges import Factor, LogUniform, Range


class AdamWConfig(AdamFamilyConfig):
    """Adam with decoupled weight decay: a step shrinks the weights by learning rate x weight_decay."""

    name: Literal["adamw"] = "adamw"

    optimizer_class: ClassVar[type[torch.optim.Adam]] = torch.optim.AdamW
    search_ranges: ClassVar[Mapping[str, Range]] = {"lr": Factor(0.125, 8), "weight_decay": LogUniform(1e-7, 0.1)}
