"""DINO's full checkpoints (facebookresearch/dino, main_dino.py): teacher and student, each with a head.

The teacher is taken, as its authors' eval_linear.py does; images are resized bicubically there.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout
from issl_engine.weights.layouts.vit import BICUBIC


class DinoLayout(Layout):
    """DINO with heads: teacher.backbone. and student.module.backbone.; the teacher is taken."""

    name: Literal["dino"] = "dino"

    roots: ClassVar = (r"teacher\.(module\.)?(backbone\.)?", r"student\.(module\.)?(backbone\.)?")
    heads: ClassVar = (
        r"(teacher|student)\.(\w+\.)*head\..+",
        r"student\.(module\.)?(backbone\.)?.+",
        r"(dino_loss|fp16_scaler)\..+",
    )
    preprocessing: ClassVar = BICUBIC
