"""SwAV's published files (facebookresearch/swav): a flat state dict, or one below ``state_dict`` beside the optimiser.

Its images were divided by a standard deviation of 0.228 in the red channel (src/multicropdataset.py, eval_linear.py).
"""

from dataclasses import replace
from typing import ClassVar, Literal

from issl_engine.views.preprocessing import IMAGENET
from issl_engine.weights.layouts.base import Layout


class SwavLayout(Layout):
    """SwAV, DeepCluster v2 and SeLa v2: module., with projection_head and prototypes."""

    name: Literal["swav"] = "swav"

    roots: ClassVar = (r"(state_dict\.)?(module\.)?",)
    signs: ClassVar = (r"(\w+\.)*projection_head\..+", r"(\w+\.)*prototypes\..+")
    heads: ClassVar = (r"(\w+\.)*(projection_head|prototypes)\..+",)
    preprocessing: ClassVar = replace(IMAGENET, std=(0.228, 0.224, 0.225))
