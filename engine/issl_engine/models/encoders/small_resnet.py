"""A small ResNet that pretrains on a CPU within minutes.

Letters: N images, C channels, H height, W width, D representation.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.models.encoders.residual_blocks import (
    BasicBlock,
    conv1x1,
    conv3x3,
    init_like_torchvision,
    stage,
)


class SmallResNetConfig(EncoderConfig):
    """Residual blocks of widths w, 2w and 4w, then a 1x1 convolution to ``dim``: small images on CPUs."""

    name: Literal["small_resnet"] = "small_resnet"
    width: Annotated[int, Field(ge=1)] = 32
    """Channels w of the stem and of the first block."""
    stem_stride: Literal[1, 2] = 2
    """Stride of the 3x3 stem; 1 keeps more detail and takes four to five times as long."""
    dim: Annotated[int, Field(ge=1)] = 512
    """Width of the representation."""

    def build(self, *, image_size: int) -> "SmallResNet":
        return SmallResNet(width=self.width, stem_stride=self.stem_stride, dim=self.dim)


class SmallResNet(Encoder):
    """Images [N, 3, H, W] with sides of at least 8 px → [N, dim]."""

    def __init__(self, *, width: int, stem_stride: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.conv1 = conv3x3(3, width, stem_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(BasicBlock, width, width, depth=1, stride=1)
        self.layer2 = stage(BasicBlock, width, 2 * width, depth=1, stride=2)
        self.layer3 = stage(BasicBlock, 2 * width, 4 * width, depth=1, stride=2)
        self.conv_out = conv1x1(4 * width, dim)
        self.bn_out = nn.BatchNorm2d(dim)
        init_like_torchvision(self)

    def blocks(self) -> list[nn.Module]:
        return [*self.layer1, *self.layer2, *self.layer3]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x_NCHW: Tensor = self.relu(self.bn1(self.conv1(images_NCHW)))
        x_NCHW = self.layer3(self.layer2(self.layer1(x_NCHW)))
        x_NCHW = self.relu(self.bn_out(self.conv_out(x_NCHW)))
        z_ND = x_NCHW.mean(dim=(2, 3))
        return z_ND
