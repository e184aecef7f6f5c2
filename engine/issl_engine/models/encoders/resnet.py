"""ResNet-18, 34 and 50 (He et al., 2016) with stems for small images and an optional dimension expansion.

Parameter names are torchvision's (without ``fc``), so that weights move both ways.
Letters: N images, C channels, H height, W width, D representation.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.models.encoders.dimension_expansion import DimensionExpansion
from issl_engine.models.encoders.residual_blocks import (
    BasicBlock,
    Bottleneck,
    conv3x3,
    init_like_torchvision,
    stage,
)

Stem = Literal["imagenet", "small", "tiny"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Kind of block, and how many of them each of the four stages has."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]

    @property
    def width(self) -> int:
        """Channels after the last stage."""
        return 512 * self.block.expansion


ARCHITECTURES = {
    "resnet18": Architecture(block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": Architecture(block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": Architecture(block=Bottleneck, depths=(3, 4, 6, 3)),
}


class ResNetConfig(EncoderConfig):
    """A ResNet with torchvision's parameter names; representations are average-pooled last feature maps."""

    name: Literal["resnet18", "resnet34", "resnet50"]
    """Depth of the network."""
    dim: Annotated[int, Field(ge=1)] | None = None
    """Width of the representation: null for the backbone's (512, 512, 2048); more is an expansion."""
    stem: Literal["auto", "imagenet", "small", "tiny"] = "auto"
    """First layers: imagenet (7x7 stride 2, max-pool), small (3x3 stride 1, max-pool), tiny (3x3 stride 1);
    auto takes tiny below 50 px, small below 100 px, else imagenet, by the largest crop."""
    zero_init_residual: bool = False
    """Start every residual branch at zero, so that blocks begin as the identity."""

    def build(self, *, image_size: int) -> "ResNet":
        """Raises ValueError when ``dim`` is below the backbone's width."""
        architecture = ARCHITECTURES[self.name]
        dim = architecture.width if self.dim is None else self.dim
        if dim < architecture.width:
            raise ValueError(
                f"encoder.dim ({dim}) is below the {architecture.width} of {self.name}; "
                "give null, a larger number or a smaller encoder"
            )
        stem = stem_for(image_size) if self.stem == "auto" else self.stem
        return ResNet(architecture, stem=stem, dim=dim, zero_init_residual=self.zero_init_residual)


def stem_for(image_size: int) -> Stem:
    """The stem that suits images with sides of ``image_size`` pixels."""
    if image_size < 50:
        return "tiny"
    return "small" if image_size < 100 else "imagenet"


class ResNet(Encoder):
    """Images [N, 3, H, W], sides from 8 px up → [N, dim]. ``resizer`` is the expansion, or the identity."""

    def __init__(self, architecture: Architecture, *, stem: Stem, dim: int, zero_init_residual: bool = False) -> None:
        super().__init__()
        block, depths = architecture.block, architecture.depths
        self.dim = dim
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False) if stem == "imagenet" else conv3x3(3, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if stem == "tiny" else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        init_like_torchvision(self)
        if zero_init_residual:
            self._zero_residual_branches()
        width = architecture.width
        self.resizer = DimensionExpansion(width, dim) if dim > width else nn.Identity()

    def _zero_residual_branches(self) -> None:
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_(module.last_norm.weight)

    def blocks(self) -> list[nn.Module]:
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [*(block for stage in stages for block in stage), self.resizer]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x_NCHW = self.maxpool(self.relu(self.bn1(self.conv1(images_NCHW))))
        x_NCHW = self.layer4(self.layer3(self.layer2(self.layer1(x_NCHW))))
        z_ND = self.resizer(x_NCHW).mean(dim=(2, 3))
        return z_ND
