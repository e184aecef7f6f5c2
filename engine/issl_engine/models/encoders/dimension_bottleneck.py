"""Another number of dimensions than the backbone has, through a bottleneck (Dubois et al. 2022, arXiv 2209.06235).

Letters: N images, C channels, H height, W width; r how often the input's channels fit into the output's.
"""

import math

import torch
from torch import Tensor, nn

from issl_engine.models.encoders.residual_blocks import conv1x1, conv3x3, init_like_torchvision

HIDDEN_CHANNELS = 512


class DimensionBottleneck(nn.Module):
    """[N, C, H, W] → [N, dim, H, W], before the average pool.

    Convolutions 1x1 to 512 channels, 3x3, and 1x1 to ``dim``, each with batch-norm. Where C divides ``dim``,
    the input repeated dim/C times (output channel j takes input channel j mod C) is added before the last
    ReLU; there is nothing to add to fewer channels than C.
    The first convolution starts as a random projection: normal, standard deviation 1/sqrt(512).
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, HIDDEN_CHANNELS)
        self.bn1 = nn.BatchNorm2d(HIDDEN_CHANNELS)
        self.conv2 = conv3x3(HIDDEN_CHANNELS, HIDDEN_CHANNELS)
        self.bn2 = nn.BatchNorm2d(HIDDEN_CHANNELS)
        self.conv3 = conv1x1(HIDDEN_CHANNELS, dim)
        self.bn3 = nn.BatchNorm2d(dim)
        self.relu = nn.ReLU(inplace=True)
        self.is_residual = dim % in_channels == 0
        init_like_torchvision(self)
        nn.init.normal_(self.conv1.weight, std=1 / math.sqrt(HIDDEN_CHANNELS))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NCHW: Tensor = self.relu(self.bn1(self.conv1(x_NCHW)))
        out_NCHW = self.relu(self.bn2(self.conv2(out_NCHW)))
        out_NCHW = self.bn3(self.conv3(out_NCHW))
        if self.is_residual:
            # Broadcasting over r adds the repeated channels without making a copy of them.
            out_NrCHW = torch.unflatten(out_NCHW, 1, (-1, x_NCHW.shape[1])) + x_NCHW.unsqueeze(1)
            out_NCHW = out_NrCHW.flatten(1, 2)
        out_NCHW = self.relu(out_NCHW)
        return out_NCHW
