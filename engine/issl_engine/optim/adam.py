"""Adam with L2 regularisation: the weights' decay is added to the gradient (Kingma and Ba, 2015)."""

from typing import ClassVar, Literal

import torch

from issl_engine.optim.adam_family import AdamFamilyConfig


class AdamConfig(AdamFamilyConfig):
    """Adam, with weight decay as an L2 term in the gradient (the TinyImageNet recipes of DISSL and CISSL)."""

    name: Literal["adam"] = "adam"

    optimizer_class: ClassVar[type[torch.optim.Adam]] = torch.optim.Adam
