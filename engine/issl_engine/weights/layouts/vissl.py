"""VISSL's checkpoints (facebookresearch/vissl): model_final_checkpoint_phase*.torch, and files converted to its names.

The DISSL fork puts the expansion among the feature blocks as ``resizer``.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class VisslLayout(Layout):
    """VISSL: classy_state_dict.base_model.model.trunk._feature_blocks., with heads."""

    name: Literal["vissl"] = "vissl"

    roots: ClassVar = (r"(\w+\.)*_feature_blocks\.",)
    heads: ClassVar = (
        r"(\w+\.)*model\.heads\..+",
        r"(\w+\.)*_feature_blocks\.fc\..+",
        r"classy_state_dict\.(?!base_model\.model\.trunk\.).+",
    )
