"""Plain ResNets and ViTs.

torchvision's resnet*.pth, timm's model.safetensors, the published backbones of DINO, Barlow Twins and VICReg.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class TorchvisionLayout(Layout):
    """A plain ResNet or ViT: names as torchvision and timm give them, perhaps with a classifier."""

    name: Literal["torchvision"] = "torchvision"

    roots: ClassVar = ("", r"(state_dict\.|model\.|model_state_dict\.)?(module\.|model\.)?")
    heads: ClassVar = (
        r"(\w+\.)*(fc|head|head_dist|classifier|linear|projector|projection_head|projection|predictor)\..+",
        r"(\w+\.)*mask_token",
    )
