"""ResNets (He et al., 2016) of several depths and widths, with stems for small images and representations of other
widths than the backbone's.

Parameter names are torchvision's (without ``fc``), so that weights move both ways.
Letters: N images, C channels, H height, W width, D representation.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.models.encoders.dimension_bottleneck import DimensionBottleneck
from issl_engine.models.encoders.residual_blocks import (
    BasicBlock,
    Bottleneck,
    conv3x3,
    init_like_torchvision,
    stage,
)

Stem = Literal["imagenet", "small", "tiny", "tiny_padded"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Kind of block, and how many of them each of the four stages has."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]

    def width(self, multiplier: int) -> int:
        """Channels after the last stage."""
        return 512 * multiplier * self.block.expansion


ARCHITECTURES = {
    "resnet18": Architecture(block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": Architecture(block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": Architecture(block=Bottleneck, depths=(3, 4, 6, 3)),
    "resnet101": Architecture(block=Bottleneck, depths=(3, 4, 23, 3)),
    "resnet152": Architecture(block=Bottleneck, depths=(3, 8, 36, 3)),
    "resnet200": Architecture(block=Bottleneck, depths=(3, 24, 36, 3)),
}


class ResNetConfig(EncoderConfig):
    """A ResNet with torchvision's parameter names; representations are average-pooled last feature maps."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"]
    """Depth of the network."""
    width_multiplier: Annotated[int, Field(ge=1)] = 1
    """The channels of every layer are multiplied by this: 2 gives the ResNet-50 (2x) of SimCLR, SwAV and BYOL. It is
    not torchvision's wide_resnet50_2, which widens the 3x3 convolutions alone."""
    dim: Annotated[int, Field(ge=1)] | None = None
    """Width of the representation: null for the backbone's (512 for resnet18 and 34, else 2048, times
    width_multiplier); another number adds a bottleneck of three convolutions that has it."""
    bottleneck: Literal["where_needed", "always"] = "where_needed"
    """always adds that bottleneck where dim is the backbone's width too, so that encoders of several widths differ in
    nothing else (the published comparison of widths on TinyImageNet)."""
    stem: Literal["auto", "imagenet", "small", "tiny", "tiny_padded"] = "auto"
    """First layers: imagenet (7x7 stride 2, max-pool), small (3x3 stride 1, max-pool), tiny (3x3 stride 1),
    tiny_padded (tiny with 2 pixels of padding: solo-learn's for CIFAR); auto takes tiny below 50 px, small below
    100 px, else imagenet, by the largest crop."""
    zero_init_residual: bool = False
    """Start every residual branch at zero, so that blocks begin as the identity."""

    def build(self, *, image_size: int) -> "ResNet":
        architecture = ARCHITECTURES[self.name]
        width = architecture.width(self.width_multiplier)
        dim = width if self.dim is None else self.dim
        stem = stem_for(image_size) if self.stem == "auto" else self.stem
        return ResNet(
            architecture,
            width_multiplier=self.width_multiplier,
            stem=stem,
            dim=dim,
            has_bottleneck=dim != width or self.bottleneck == "always",
            zero_init_residual=self.zero_init_residual,
        )


def stem_for(image_size: int) -> Stem:
    """The stem that suits images with sides of ``image_size`` pixels."""
    if image_size < 50:
        return "tiny"
    return "small" if image_size < 100 else "imagenet"


def _first_convolution(stem: Stem, channels: int) -> nn.Conv2d:
    if stem == "imagenet":
        return nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
    if stem == "tiny_padded":
        return nn.Conv2d(3, channels, 3, stride=1, padding=2, bias=False)
    return conv3x3(3, channels)


class ResNet(Encoder):
    """Images [N, 3, H, W], sides from 8 px up → [N, dim]. ``resizer`` is the bottleneck that gives the width, or the
    identity."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        width_multiplier: int = 1,
        stem: Stem,
        dim: int,
        has_bottleneck: bool,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        block, depths, channels = architecture.block, architecture.depths, 64 * width_multiplier
        self.dim = dim
        self.conv1 = _first_convolution(stem, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem in ("imagenet", "small") else nn.Identity()
        self.layer1 = stage(block, channels, channels, depths[0], stride=1)
        self.layer2 = stage(block, channels * block.expansion, 2 * channels, depths[1], stride=2)
        self.layer3 = stage(block, 2 * channels * block.expansion, 4 * channels, depths[2], stride=2)
        self.layer4 = stage(block, 4 * channels * block.expansion, 8 * channels, depths[3], stride=2)
        init_like_torchvision(self)
        if zero_init_residual:
            self._zero_residual_branches()
        width = architecture.width(width_multiplier)
        self.resizer = DimensionBottleneck(width, dim) if has_bottleneck else nn.Identity()

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
        z_ND: Tensor = self.resizer(x_NCHW).mean(dim=(2, 3))
        return z_ND
