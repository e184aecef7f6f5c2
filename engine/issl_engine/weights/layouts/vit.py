"""Plain ViTs, named as timm names them.

DINO's published ViTs, MAE's published encoders (facebookresearch/mae, below ``model``, in full files beside a decoder),
DINOv2's without registers. All of these resize images bicubically; a timm file with another preprocessing says so in
the config.json beside it.
"""

from dataclasses import replace
from typing import ClassVar, Literal

from issl_engine.views.preprocessing import IMAGENET
from issl_engine.weights.layouts.base import Layout

BICUBIC = replace(IMAGENET, interpolation="bicubic")


class VitLayout(Layout):
    """A plain ViT: names as timm gives them, perhaps with a classifier or MAE's decoder."""

    name: Literal["vit"] = "vit"

    anchors: ClassVar = ("patch_embed.proj.weight",)
    roots: ClassVar = ("", r"(state_dict\.|model\.)?(module\.|model\.|_orig_mod\.)*")
    heads: ClassVar = (r"(\w+\.)*(head|head_dist|fc)\..+", r"(\w+\.)*mask_token", r"(\w+\.)*decoder_\w+(\..+)?")
    preprocessing: ClassVar = BICUBIC
