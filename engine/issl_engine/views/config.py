"""Multi-crop views: what a recipe says of them, and the order of what happens to a crop."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.variants import one_of
from issl_engine.views import policies
from issl_engine.views.augmentations.base import Probability, Range, Transform
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import Colour, ColourJitter
from issl_engine.views.augmentations.crop import Crop, Interpolation
from issl_engine.views.augmentations.flip import Flip
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.policy import Policy
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.augmentations.user import UserOperator, UserTransform
from issl_engine.views.masks import PatchMask

if TYPE_CHECKING:
    AnyPolicy = Policy
else:
    AnyPolicy = one_of(policies, Policy)

Triple = tuple[float, float, float]


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
    def user_operators(self) -> tuple[UserOperator, ...]:
        return self.operators or ()

    def in_order(self) -> tuple[Transform, ...]:
        """What happens to a crop after it is cut and resized, first to last."""
        transforms = (
            self.rotation,
            *(self.policy.steps() if self.policy is not None else ()),
            Colour(self.colour_jitter, self.greyscale),
            self.blur,
            self.solarise,
            self.gaussian_noise,
            *(UserTransform(operator, index) for index, operator in enumerate(self.user_operators)),
            Flip(self.flip),
        )
        return tuple(transform for transform in transforms if transform is not None)

    def legend(self) -> str:
        """All of it in one line, each part with its probability; the flip comes first, as its key does."""
        *others, flip = self.in_order()
        return ", ".join(filter(None, (transform.legend() for transform in (flip, *others))))


class CropGroup(Config):
    """``count`` crops of one size, cut from the same image with the same distribution."""

    count: Annotated[int, Field(ge=1)]
    """Crops per image."""
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
    interpolation: Interpolation = "bilinear"
    """How crops are resized; always antialiased."""

    @property
    def num_views(self) -> int:
        """Crops per image, over all groups."""
        return sum(group.count for group in self.groups)

    @property
    def group_of_view(self) -> tuple[CropGroup, ...]:
        """The crop group of each view, in the views' order."""
        return tuple(group for group in self.groups for _ in range(group.count))

    def augmentation_of(self, group: CropGroup) -> Augmentation:
        """The group's own augmentation, or that of all."""
        return group.augmentation or self.augmentation

    def transforms_of(self, group: CropGroup) -> tuple[Transform, ...]:
        """The crop, and all that happens to it, first to last."""
        crop = Crop(size=group.size, area=group.area, ratio=group.ratio, interpolation=self.interpolation)
        return (crop, *self.augmentation_of(group).in_order())

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
