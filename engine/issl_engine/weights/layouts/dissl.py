"""The published DISSL encoders: dissl_resnet50_d8192_e400_m6.torch and so on.

Names are torchvision's; the expansion before the average pool is ``resizer`` in the files and ``avgpool.0`` in the
model that the authors' torch.hub entry makes (hubconf.py of YannDubs/Invariant-Self-Supervised-Learning). The files of
2048 dimensions have no expansion and are plain ResNets.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class DisslLayout(Layout):
    """Published DISSL and CISSL: torchvision's names, and an expansion named resizer or avgpool.0."""

    name: Literal["dissl"] = "dissl"

    roots: ClassVar = (r"(state_dict\.|model\.)?(module\.)?",)
    signs: ClassVar = (r"(\w+\.)*(resizer|avgpool\.0)\.conv1\.weight",)
    renames: ClassVar = ((r"avgpool\.0\.", "resizer."),)
    heads: ClassVar = (r"(\w+\.)*fc\..+",)
