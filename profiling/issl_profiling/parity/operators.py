"""Each operator of the training loader beside torchvision's, with the same parameters on the same images.

Letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, ViewsConfig
from issl_profiling.parity.deviation import GREY_LEVELS, Deviation
from issl_profiling.parity.images import NOTHING, WHOLE, Drawn, image_set, loaded_crops, one_crop, photo_like

N, SIDE = 24, 64
CLOSE = 1.0
"""Grey levels that an operator may be off on average; torchvision cuts the fraction off, DALI rounds."""
CLOSE_IN_FOUR_STEPS = 2.0
"""As torchvision's jitter cuts the fraction off in each."""
EXACT = 1e-3
"""What the normalisation's float arithmetic leaves."""
INTERPOLATIONS: tuple[Literal["bilinear", "bicubic"], ...] = ("bilinear", "bicubic")

HUES = ((0.1, 3.0), (0.2, 5.0), (0.5, 6.0))
"""Strength, and the grey levels allowed: a linear map is not HSV's. A turn in YIQ is beyond."""
JITTERS = ((0.4, 0.0, CLOSE_IN_FOUR_STEPS), (0.8, 0.0, CLOSE_IN_FOUR_STEPS), (0.4, 0.1, 3.3), (0.8, 0.2, 4.5))
"""Strength of brightness, contrast and saturation, that of hue, and the grey levels allowed."""

Reference = Callable[[Any, Tensor, Drawn, int], Tensor]
"""torchvision's functions, an image uint8 [C, H, W], the draws, its place in them → the crop in grey levels."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One comparison. ``edge``: pixels at each side that are left out."""

    name: str
    parameters: str
    compared: str = "all pixels"
    views: ViewsConfig
    reference: Reference
    height: int = SIDE
    width: int = SIDE
    edge: int = 0
    allowed: float = CLOSE


def operators() -> list[Operator]:
    return [*_resizes(), *_colours(), *_blurs(), *_others()]


def compare_operator(functional: Any, operator: Operator) -> Deviation:
    """``functional`` is torchvision.transforms.v2.functional."""
    pixels = photo_like(N, operator.height, operator.width)
    crops, images, draws = loaded_crops(image_set(pixels), pixels, operator.views)
    references = [operator.reference(functional, image, draws, i) for i, image in enumerate(images)]
    inside = slice(operator.edge, -operator.edge or None)
    difference = (crops - torch.stack(references).double())[..., inside, inside].abs()
    return deviation_in_levels(
        difference, operator.name, operator.parameters, operator.compared, allowed=operator.allowed
    )


def deviation_in_levels(
    difference: Tensor, name: str, parameters: str, compared: str, *, allowed: float = CLOSE
) -> Deviation:
    return Deviation(
        operator=name, parameters=parameters, compared=compared, measure=GREY_LEVELS,
        value=difference.mean().item(), p99=difference.flatten().quantile(0.99).item(),
        max=difference.max().item(), allowed=allowed,
    )  # fmt: skip


def _resizes() -> Iterator[Operator]:
    for interpolation in INTERPOLATIONS:
        for size in (24, 96):
            yield Operator(
                name=f"resize {interpolation}", parameters=f"{SIDE} to {size} px, antialiased",
                views=one_crop(size=size, interpolation=interpolation),
                reference=partial(_resized, size=size, interpolation=interpolation),
            )  # fmt: skip
        for area in ((0.14, 1.0), (0.05, 0.14)):
            whole = Operator(
                name=f"crop and resize {interpolation}",
                parameters=f"area {area[0]:g}-{area[1]:g} to 48 px",
                views=one_crop(size=48, area=area, interpolation=interpolation),
                reference=partial(_cut_and_resized, size=48, interpolation=interpolation),
                height=100, width=128,
            )  # fmt: skip
            yield whole
            yield replace(whole, compared="8 px inside the edges", edge=8)


def _resized(F: Any, image: Tensor, draws: Drawn, i: int, *, size: int, interpolation: str) -> Tensor:
    resized: Tensor = F.resize(image, [size, size], interpolation=interpolation, antialias=True)
    return resized


def _cut_and_resized(F: Any, image: Tensor, draws: Drawn, i: int, *, size: int, interpolation: str) -> Tensor:
    (top, left), (bottom, right) = draws.crop.start_HW[i].astype(int), draws.crop.end_HW[i].astype(int)
    return _resized(F, image[:, top:bottom, left:right], draws, i, size=size, interpolation=interpolation)


def _colours() -> Iterator[Operator]:
    off = ColourJitter(probability=1, brightness=0, contrast=0, saturation=0, hue=0)
    for strength in (0.4, 0.8):
        yield _jitter("brightness", off.model_copy(update={"brightness": strength}), _brightness)
        yield _jitter("contrast", off.model_copy(update={"contrast": strength}), _contrast)
        yield _jitter("saturation", off.model_copy(update={"saturation": strength}), _saturation)
    for turn, allowed in HUES:
        yield _jitter("hue", off.model_copy(update={"hue": turn}), _hue, allowed=allowed)
    for strength, turn, allowed in JITTERS:
        jitter = ColourJitter(probability=1, brightness=strength, contrast=strength, saturation=strength, hue=turn)
        ours = _jitter("colour jitter", jitter, _in_our_order, allowed=allowed)
        yield replace(ours, compared="torchvision in our order")
        yield replace(ours, compared="torchvision in any order", reference=_in_any_order)
    yield Operator(
        name="grey", parameters="", views=_whole(NOTHING.model_copy(update={"greyscale": 1.0})), reference=_grey
    )


def _jitter(name: str, jitter: ColourJitter, reference: Reference, *, allowed: float = CLOSE) -> Operator:
    strengths = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]
    views = _whole(NOTHING.model_copy(update={"colour_jitter": jitter}))
    parameters = "/".join(f"{strength:g}" for strength in strengths)
    return Operator(name=name, parameters=parameters, views=views, reference=reference, allowed=allowed)


def _whole(augmentation: Augmentation) -> ViewsConfig:
    return one_crop(augmentation, size=SIDE, area=WHOLE)


def _brightness(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    adjusted: Tensor = F.adjust_brightness(image, float(draws.colour.brightness[i]))
    return adjusted


def _contrast(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    adjusted: Tensor = F.adjust_contrast(image, float(draws.colour.contrast[i]))
    return adjusted


def _saturation(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    adjusted: Tensor = F.adjust_saturation(image, float(draws.colour.saturation[i]))
    return adjusted


def _hue(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    adjusted: Tensor = F.adjust_hue(image, float(draws.colour.hue[i]) / 360)
    return adjusted


def _in_our_order(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    last = [_brightness, _contrast] if draws.colour.brightness_first[i] else [_contrast, _brightness]
    for adjust in (_hue, _saturation, *last):
        image = adjust(F, image, draws, i)
    return image


def _in_any_order(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    """Shuffled, but brightness comes before contrast where it was drawn so."""
    order = [(_hue, _saturation, _brightness, _contrast)[k] for k in np.random.default_rng(i).permutation(4)]
    if (order.index(_brightness) < order.index(_contrast)) != draws.colour.brightness_first[i]:
        order = [{_brightness: _contrast, _contrast: _brightness}.get(adjust, adjust) for adjust in order]
    for adjust in order:
        image = adjust(F, image, draws, i)
    return image


def _grey(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    grey: Tensor = F.rgb_to_grayscale(image, num_output_channels=3)
    return grey


def _blurs() -> Iterator[Operator]:
    """SimCLR's kernel is a tenth of the crop, and 23 px at 224; ours reaches three standard deviations."""
    for sigma in (0.1, 0.5, 1.0, 2.0):
        for kernel in (9, 23):
            yield Operator(
                name="blur",
                parameters=f"sigma {sigma:g} px",
                compared=f"with a kernel of {kernel} px",
                views=_whole(NOTHING.model_copy(update={"blur": Blur(probability=1, sigma=(sigma, sigma))})),
                reference=partial(_blurred, kernel=kernel),
            )


def _blurred(F: Any, image: Tensor, draws: Drawn, i: int, *, kernel: int) -> Tensor:
    blurred: Tensor = F.gaussian_blur(image, [kernel, kernel], [float(draws.sigma[i])] * 2)
    return blurred


def _others() -> Iterator[Operator]:
    yield Operator(
        name="flip", parameters="", views=_whole(NOTHING.model_copy(update={"flip": 1.0})), allowed=EXACT,
        reference=_flipped,
    )  # fmt: skip
    for threshold in (100, 128):
        solarise = Solarise(probability=1, threshold=threshold)
        yield Operator(
            name="solarise", parameters=f"threshold {threshold}", allowed=EXACT,
            views=_whole(NOTHING.model_copy(update={"solarise": solarise})),
            reference=partial(_solarised, threshold=threshold),
        )  # fmt: skip


def _flipped(F: Any, image: Tensor, draws: Drawn, i: int) -> Tensor:
    flipped: Tensor = F.horizontal_flip(image)
    return flipped


def _solarised(F: Any, image: Tensor, draws: Drawn, i: int, *, threshold: int) -> Tensor:
    solarised: Tensor = F.solarize(image, threshold)
    return solarised
