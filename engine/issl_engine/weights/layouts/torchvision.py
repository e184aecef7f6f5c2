"""Plain ResNets.

torchvision's resnet*.pth, timm's model.safetensors, the published backbones of DINO, Barlow Twins and VICReg.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class TorchvisionLayout(Layout):
    """A plain ResNet: names as torchvision and timm give them, perhaps with a classifier."""

    name: Literal["torchvision"] = "torchvision"

    anchors: ClassVar = ("layer1.0.conv1.weight",)
    roots: ClassVar = ("", r"(state_dict\.|model\.|model_state_dict\.)?(module\.|model\.|_orig_mod\.)*")
    heads: ClassVar = (r"(\w+\.)*(fc|head|classifier|linear|projector|projection_head|projection|predictor)\..+",)
