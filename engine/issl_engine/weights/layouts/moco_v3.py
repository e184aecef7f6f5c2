"""MoCo v3 (facebookresearch/moco-v3): the base encoder is taken, as its authors' main_lincls.py does.

Its ViT-S has 12 attention heads instead of the usual 6 (vits.py), which no shape in the file shows.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class MocoV3Layout(Layout):
    """MoCo v3, ResNets and ViTs: state_dict.module.base_encoder., with momentum_encoder and predictor."""

    name: Literal["moco_v3"] = "moco_v3"

    roots: ClassVar = (r"(state_dict\.)?(module\.)?base_encoder\.",)
    signs: ClassVar = (r"(\w+\.)*momentum_encoder\..+",)
    heads: ClassVar = (
        r"(\w+\.)*base_encoder\.(fc|head)\..+",
        r"(\w+\.)*(momentum_encoder|predictor)\..+",
    )
    vit_heads: ClassVar = {384: 12}
