"""What a contact sheet says of each crop group: its crops, and what happens to them."""

import textwrap

from issl_engine.views.config import Augmentation, CropGroup, PatchMask, ViewsConfig
from issl_engine.views.policies.base import ALL_OPERATIONS, Policy

LINE_LENGTH = 120
"""Longer descriptions go on in a line of their own."""


def group_legend(name: str, group: CropGroup, views: ViewsConfig) -> list[str]:
    """A few lines on one group."""
    low, high = group.area
    crops = (
        f"{name}: {group.count} x {group.size} px, area {low:g} to {high:g}, "
        f"ratio {group.ratio[0]:.3g} to {group.ratio[1]:.3g}, {views.interpolation}"
    )
    parts = [describe_augmentation(views.augmentation_of(group))]
    if group.mask is not None:
        parts.append(_mask(group.mask, group.size))
    if group.mean is not None or group.std is not None:
        mean, std = views.normalisation_of(group)
        parts.append(f"mean {_numbers(mean)}, std {_numbers(std)}")
    indent = " " * 4
    further = (textwrap.wrap(part, LINE_LENGTH, initial_indent=indent, subsequent_indent=2 * indent) for part in parts)
    return [crops, *(line for lines in further for line in lines)]


def describe_augmentation(augmentation: Augmentation) -> str:
    """The augmentation in one line, each part with its probability."""
    parts = [f"flip {augmentation.flip:g}"]
    if rotation := augmentation.rotation:
        parts.append(
            f"rotation {rotation.probability:g} ({rotation.degrees[0]:g} to {rotation.degrees[1]:g} degrees, "
            f"fill {rotation.fill})"
        )
    if augmentation.policy is not None:
        parts.append(_policy(augmentation.policy))
    if jitter := augmentation.colour_jitter:
        parts.append(
            f"jitter {jitter.probability:g} (brightness {jitter.brightness:g}, contrast {jitter.contrast:g}, "
            f"saturation {jitter.saturation:g}, hue {jitter.hue:g})"
        )
    parts.append(f"grey {augmentation.greyscale:g}")
    if blur := augmentation.blur:
        parts.append(f"blur {blur.probability:g} (sigma {blur.sigma[0]:g} to {blur.sigma[1]:g} px)")
    if solarise := augmentation.solarise:
        parts.append(f"solarise {solarise.probability:g} (from {solarise.threshold})")
    if noise := augmentation.gaussian_noise:
        parts.append(f"noise {noise.probability:g} (std {noise.std[0]:g} to {noise.std[1]:g} grey levels)")
    parts += [f"{operator.function} {operator.probability:g}" for operator in augmentation.user_operators]
    return ", ".join(parts)


def _policy(policy: Policy) -> str:
    """Its name, what it draws, and which operations if not all."""
    drawn = f"{policy.name} ({policy.strength()}"
    left_out = [name for name in ALL_OPERATIONS if name not in policy.operations]
    if left_out and len(left_out) < len(policy.operations):
        return f"{drawn}, all operations but {' '.join(left_out)})"
    return f"{drawn}, {' '.join(policy.operations)})" if left_out else f"{drawn})"


def _mask(mask: PatchMask, size: int) -> str:
    low, high = mask.ratio
    side = size // mask.patch_size
    share = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return f"mask {share} of {side} x {side} patches of {mask.patch_size} px ({mask.kind}), shown grey"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
