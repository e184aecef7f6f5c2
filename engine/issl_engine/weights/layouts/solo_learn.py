"""solo-learn's Lightning checkpoints (vturrisi/solo-learn): ``state_dict.backbone.`` beside heads and a classifier.

For CIFAR the first convolution is 3x3 with 2 pixels of padding and no max-pool follows (solo/methods/base.py); its
images are 32 pixels wide and normalised by CIFAR-10's statistics (solo/data/classification_dataloader.py).
"""

from typing import ClassVar, Literal

from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.layouts.base import Layout


class SoloLearnLayout(Layout):
    """solo-learn: state_dict.backbone. (earlier state_dict.encoder.), beside classifier and heads."""

    name: Literal["solo_learn"] = "solo_learn"

    roots: ClassVar = (r"state_dict\.(backbone|encoder)\.",)
    signs: ClassVar = (r"state_dict\.classifier\.weight",)
    heads: ClassVar = (
        r"state_dict\.(?!backbone\.|encoder\.).+",
        r"state_dict\.(backbone|encoder)\.fc\..+",
    )
    stem_of_3x3: ClassVar = "tiny_padded"
    preprocessing_of_3x3: ClassVar = Preprocessing(
        resize=32, crop=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261), interpolation="bilinear"
    )
