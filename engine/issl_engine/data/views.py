"""Multi-crop views: what a recipe says of them, and the batch that the loader hands to the training step."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from issl_engine.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class ColourJitter(Config):
    """Random brightness, contrast, saturation and hue. A strength s means a factor drawn from [max(0, 1-s), 1+s]."""

    probability: Probability = 0.8
    """Share of the crops that are jittered."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the brightness factor."""
    contrast: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the contrast factor."""
    saturation: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the saturation factor."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """The hue is turned by a share of the colour circle drawn from [-hue, hue]."""


class Blur(Config):
    """Gaussian blur."""

    probability: Probability = 0.5
    """Share of the crops that are blurred."""
    sigma: Range = (0.1, 2.0)
    """Range of the standard deviation, in pixels of the crop."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"sigma must be two numbers 0 < low <= high, not {list(self.sigma)}")
        return self


class Solarise(Config):
    """Inverts the pixels at or above a threshold."""

    probability: Probability = 0.2
    """Share of the crops that are solarised."""
    threshold: Annotated[int, Field(ge=0, le=255)] = 128
    """Pixel value (0 to 255) from which on pixels are inverted."""


class Augmentation(Config):
    """What happens to a crop after it is cut and resized, in this order: flip, jitter, grey, blur, solarise."""

    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    colour_jitter: ColourJitter | None = ColourJitter()
    """Colour jitter, or null for none."""
    greyscale: Probability = 0.2
    """Probability of turning the crop grey."""
    blur: Blur | None = None
    """Gaussian blur, or null for none."""
    solarise: Solarise | None = None
    """Solarisation, or null for none."""


class CropGroup(Config):
    """``count`` crops of one size, cut from the same image with the same distribution."""

    count: Annotated[int, Field(ge=1)]
    """Crops an image."""
    size: Annotated[int, Field(ge=8)]
    """Side of the square crop after resizing, in pixels."""
    area: Range = (0.08, 1.0)
    """Range of the share of the image's area that a crop covers."""
    ratio: Range = (3 / 4, 4 / 3)
    """Range of the crop's width over its height, drawn log-uniformly."""
    augmentation: Augmentation | None = None
    """Augmentation of this group alone; null takes ``views.augmentation``."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be two shares 0 < low <= high <= 1, not {list(self.area)}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two numbers 0 < low <= high, not {list(self.ratio)}")
        return self


class ViewsConfig(Config):
    """All crops of an image. The global ones (seen by teachers) come first."""

    groups: Annotated[tuple[CropGroup, ...], Field(min_length=1)]
    """The crop groups, global ones first."""
    num_global_views: Annotated[int, Field(ge=1)] = 2
    """How many of the crops, from the first on, are global; a whole number of groups, all of one size."""
    augmentation: Augmentation = Augmentation()
    """Augmentation of every group that has none of its own."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from the red, green and blue channels (pixels as 0 to 1)."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """The channels are divided by this after the subtraction."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How crops are resized; always antialiased."""

    @property
    def num_views(self) -> int:
        """Crops an image, over all groups."""
        return sum(group.count for group in self.groups)

    @property
    def largest_size(self) -> int:
        """Side of the largest crop, in pixels."""
        return max(group.size for group in self.groups)

    @model_validator(mode="after")
    def _global_views_are_whole_groups(self) -> Self:
        count, sizes = 0, set()
        for group in self.groups:
            if count < self.num_global_views:
                sizes.add(group.size)
                count += group.count
        if count != self.num_global_views or len(sizes) != 1:
            raise ValueError(
                f"num_global_views is {self.num_global_views}, which is not the crop count of the first groups, "
                f"all of one size (counts {[g.count for g in self.groups]}, sizes {[g.size for g in self.groups]})"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class MultiCropBatch:
    """The crops of B images on one rank.

    ``crops``: one float tensor [count, B, 3, size, size] a crop group, normalised; ``ids``: int64 [B], each image's
    place in its ImageSet; ``labels``: int64 [B] (read by online probes only, never by an objective).
    """

    crops: tuple[Tensor, ...]
    ids: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "MultiCropBatch":
        return MultiCropBatch(
            crops=tuple(crop.to(device, non_blocking=True) for crop in self.crops),
            ids=self.ids,
            labels=self.labels.to(device, non_blocking=True),
        )
