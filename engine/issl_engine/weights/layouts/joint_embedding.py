"""Encoders inside a model of two or three parts.

Full checkpoints of Barlow Twins and VICReg (``model.module.backbone.``), SimSiam (``state_dict.module.encoder.``),
SimCLR for PyTorch (``state_dict.backbone.``, its head being ``backbone.fc``), BYOL (``online_encoder``), lightly and
Lightning modules. Of several encoders the one that is trained is taken, not its moving average.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout

NO_AVERAGE = r"(?!(\w+\.)*(target|momentum|teacher|ema)\w*\.)"
BACKBONES = r"(backbone|encoder|trunk|net|resnet|feature_extractor)"


class JointEmbeddingLayout(Layout):
    """SimCLR, BYOL, SimSiam, Barlow Twins, VICReg: backbone. or encoder., beside heads."""

    name: Literal["joint_embedding"] = "joint_embedding"

    roots: ClassVar = (
        rf"{NO_AVERAGE}(\w+\.){{0,2}}?(module\.)?{BACKBONES}\.",
        rf"{NO_AVERAGE}(\w+\.){{0,2}}?(online|student|base)\w*\.({BACKBONES}\.)?",
    )
    heads: ClassVar = (
        rf"(\w+\.)*{BACKBONES}\.(fc|head|projector|projection_head)\..+",
        r"(\w+\.)*(projector|projection_head|projection|predictor|prediction_head|classifier|prototypes|bn)\..+",
        r"(\w+\.)*(target|momentum|teacher|ema)\w*\..+",
        r"(\w+\.)*queue\w*",
    )
