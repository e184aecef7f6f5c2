"""Multi-crop views: what a recipe says of them, and the batch that the loader hands to the training step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.variants import one_of
from issl_engine.views import policies
from issl_engine.views.policies.base import Policy

if TYPE_CHECKING:
    AnyPolicy = Policy
else:
    AnyPolicy = one_of(policies, Policy)

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Triple = tuple[float, float, float]


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
            raise Mistake(f"sigma must be two numbers 0 < low <= high, not {list(self.sigma)}")
        return self


class Solarise(Config):
    """Inverts the pixels at or above a threshold."""

    probability: Probability = 0.2
    """Share of the crops that are solarised."""
    threshold: Annotated[int, Field(ge=0, le=255)] = 128
    """Pixel value (0 to 255) from which on pixels are inverted."""


class Rotation(Config):
    """Turns the crop about its centre, bilinearly; its size stays."""

    probability: Probability = 0.5
    """Share of the crops that are turned."""
    degrees: Range = (-30.0, 30.0)
    """Range of the angle, in degrees anticlockwise."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey level of the corners that come into sight."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not -180 <= self.degrees[0] <= self.degrees[1] <= 180:
            raise Mistake(f"degrees must be two angles -180 <= low <= high <= 180, not {list(self.degrees)}")
        return self


class GaussianNoise(Config):
    """Adds normal noise, independent in each pixel and channel, and rounds to whole grey levels.

    The noise of an image is a window, at a random place, of one long field of four million normal numbers that the
    seed makes; these are rounded to 1/32 of a standard deviation and end at four standard deviations.
    """

    probability: Probability = 0.5
    """Share of the crops that get noise."""
    std: Range = (2.0, 10.0)
    """Range of the standard deviation, in grey levels (0 to 255)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.std[0] <= self.std[1] <= 255:
            raise Mistake(f"std must be two numbers 0 < low <= high <= 255, not {list(self.std)}")
        return self


class UserOperator(Config):
    """An operator of your own: a function that builds part of the DALI graph."""

    function: str
    """Where it is, as ``package.module:name``. It is called as ``name(view, uniform)`` with two DALI nodes, the crop
    (uint8, HWC) and a number in [0, 1) an image, and returns a crop of the same type, layout and size. All its
    randomness comes from ``uniform``, so that a resumed run sees the same crops."""
    probability: Probability = 1.0
    """Share of the crops that keep its result; it runs on all."""

    @field_validator("function")
    @classmethod
    def _is_a_path(cls, function: str) -> str:
        module, _, name = function.partition(":")
        if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise Mistake(f"{function!r} is not of the form package.module:name; write where the function is")
        return function


class Augmentation(Config):
    """What happens to a crop after it is cut and resized, in the order of these keys; only the flip comes last."""

    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    rotation: Rotation | None = None
    """Rotation, or null for none."""
    policy: AnyPolicy | None = None
    """RandAugment or TrivialAugment, or null for none."""
    colour_jitter: ColourJitter | None = ColourJitter()
    """Colour jitter, or null for none."""
    greyscale: Probability = 0.2
    """Probability of turning the crop grey."""
    blur: Blur | None = None
    """Gaussian blur, or null for none."""
    solarise: Solarise | None = None
    """Solarisation, or null for none."""
    gaussian_noise: GaussianNoise | None = None
    """Gaussian noise, or null for none."""
    operators: tuple[UserOperator, ...] | None = None
    """Operators of your own, in this order, or null for none."""

    @property
    def num_policy_steps(self) -> int:
        return 0 if self.policy is None else self.policy.num_steps

    @property
    def user_operators(self) -> tuple[UserOperator, ...]:
        return self.operators or ()


class PatchMask(Config):
    """Patches that an objective hides from the encoder. The crops themselves stay whole."""

    patch_size: Annotated[int, Field(ge=1)]
    """Side of a patch, in pixels; divides the crop's size."""
    ratio: Range = (0.4, 0.4)
    """Range of the share of a crop's patches that is masked, drawn for each crop."""
    kind: Literal["random", "block"] = "random"
    """Patches one by one, or in rectangles as in BEiT (Bao et al. 2022)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.ratio[0] <= self.ratio[1] <= 1:
            raise Mistake(f"ratio must be two shares 0 <= low <= high <= 1, not {list(self.ratio)}")
        return self


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
    mean: Triple | None = None
    """Subtracted from the channels of this group alone; null takes ``views.mean``."""
    std: Triple | None = None
    """The channels of this group alone are divided by it; null takes ``views.std``."""
    mask: PatchMask | None = None
    """Masked patches for patch objectives, or null for none."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise Mistake(f"area must be two shares 0 < low <= high <= 1, not {list(self.area)}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise Mistake(f"ratio must be two numbers 0 < low <= high, not {list(self.ratio)}")
        if self.mask and self.size % self.mask.patch_size:
            raise Mistake(
                f"mask.patch_size is {self.mask.patch_size} px, which does not divide the crops' size of "
                f"{self.size} px; choose a divisor"
            )
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
    def group_of_view(self) -> tuple[CropGroup, ...]:
        """The crop group of each view, in the views' order."""
        return tuple(group for group in self.groups for _ in range(group.count))

    def augmentation_of(self, group: CropGroup) -> Augmentation:
        """The group's own augmentation, or that of all."""
        return group.augmentation or self.augmentation

    def normalisation_of(self, group: CropGroup) -> tuple[Triple, Triple]:
        """Mean and standard deviation of the group's channels (pixels as 0 to 1)."""
        return group.mean or self.mean, group.std or self.std

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
            raise Mistake(
                f"num_global_views is {self.num_global_views}, which is not the crop count of the first groups, "
                f"all of one size (counts {[g.count for g in self.groups]}, sizes {[g.size for g in self.groups]})"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class MultiCropBatch:
    """The crops of B images on one rank.

    ``crops``: one float tensor [count, B, 3, size, size] a crop group, normalised; ``ids``: int64 [B], each image's
    place in its ImageSet; ``labels``: int64 [B] (read by online probes only, never by an objective). ``masks``:
    one bool tensor [count, B, size / patch, size / patch] a crop group, true where a patch is masked, or None where
    the group has no masks; left out, no group has any.
    """

    crops: tuple[Tensor, ...]
    ids: Tensor
    labels: Tensor
    masks: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.masks:
            object.__setattr__(self, "masks", (None,) * len(self.crops))

    def to(self, device: torch.device) -> "MultiCropBatch":
        return MultiCropBatch(
            crops=tuple(crop.to(device, non_blocking=True) for crop in self.crops),
            ids=self.ids,
            labels=self.labels.to(device, non_blocking=True),
            masks=tuple(None if mask is None else mask.to(device, non_blocking=True) for mask in self.masks),
        )
