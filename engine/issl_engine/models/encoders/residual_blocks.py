"""The two residual blocks of ResNets (He et al., 2016), with torchvision's parameter names.

Letters: N images, C channels, H height, W width.
"""

from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that divides the size by the stride; without bias, as a batch-norm follows."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias, as a batch-norm follows."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def init_like_torchvision(module: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan-out, batch-norm gains 1, biases 0: torchvision's ResNet."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection: [N, in, H, W] → [N, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch-norm that ends the residual branch."""
        return self.bn2

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NCHW: Tensor = self.relu(self.bn1(self.conv1(x_NCHW)))
        out_NCHW = self.bn2(self.conv2(out_NCHW))
        out_NCHW += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        out_NCHW = self.relu(out_NCHW)
        return out_NCHW


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride: version 1.5), 1x1: [N, in, H, W] → [N, 4 width, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, self.expansion * width)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, self.expansion * width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch-norm that ends the residual branch."""
        return self.bn3

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NCHW: Tensor = self.relu(self.bn1(self.conv1(x_NCHW)))
        out_NCHW = self.relu(self.bn2(self.conv2(out_NCHW)))
        out_NCHW = self.bn3(self.conv3(out_NCHW))
        out_NCHW += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        out_NCHW = self.relu(out_NCHW)
        return out_NCHW


def stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """``depth`` blocks one after another; the first takes ``in_channels`` and has the stride."""
    first = block(in_channels, width, stride)
    rest = (block(block.expansion * width, width, 1) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What the skip connection needs where the block changes shape, else None."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))
