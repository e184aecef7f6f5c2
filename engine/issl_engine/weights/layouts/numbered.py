"""ResNets whose children were put into an nn.Sequential, and so carry numbers.

``torch.nn.Sequential(*list(resnet.children())[:-1])`` makes 0 of conv1, 1 of bn1 and 4 to 7 of the four stages: BYOL
for PyTorch (``online_network_state_dict.encoder.``), lightly's examples (``state_dict.backbone.``), and many others.
"""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout

STAGES = tuple((rf"{number}\.(?=\d+\.)", f"layer{number - 3}.") for number in range(4, 8))


class NumberedLayout(Layout):
    """A ResNet as an nn.Sequential: 0 is conv1, 1 is bn1, 4 to 7 are the stages; beside heads."""

    name: Literal["numbered"] = "numbered"

    roots: ClassVar = (
        "",
        r"(\w+\.)*(online\w*|student\w*|base\w*)\.(\w+\.)*",
        r"(?!(\w*\.)*(target|momentum|teacher|ema|key)\w*\.)(\w+\.)+",
    )
    anchors: ClassVar = ("4.0.conv1.weight",)
    renames: ClassVar = ((r"0\.(?=weight)", "conv1."), (r"1\.(?=\w+\Z)", "bn1."), *STAGES)
    heads: ClassVar = (
        r"(\w+\.)*(projector|projetion|projection_head|projection|predictor|prediction_head|classifier|fc)\..+",
        r"(\w+\.)*(target|momentum|teacher|ema)\w*\..+",
    )
