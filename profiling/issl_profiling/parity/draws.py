"""The distributions of the random numbers beside those of torchvision's transforms, over N draws each.

Letters: N draws, H height, W width.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_profiling.parity.deviation import KS_DISTANCE, SHARE, Deviation
from issl_profiling.parity.images import SEED, Drawn, draw

N = 10_000
CHANCE = 1e-6
"""Of a verdict ``beyond`` where both distributions are the same."""
CROPS = (
    (375, 500, (0.08, 1.0)),
    (375, 500, (0.05, 0.14)),
    (30, 90, (0.3, 1.0)),
)
"""Height, width, area. The last image is so flat that most tries fail and some windows fall back."""
RATIO = (3 / 4, 4 / 3)
JITTER = ColourJitter(probability=0.8, brightness=0.4, contrast=1.5, saturation=0.8, hue=0.1)
BLUR, SOLARISE = Blur(probability=0.5), Solarise(probability=0.2)
AUGMENTATION = Augmentation(flip=0.5, colour_jitter=JITTER, greyscale=0.2, blur=BLUR, solarise=SOLARISE)


def compare_draws(transforms: Any) -> Iterator[Deviation]:
    """``transforms`` is torchvision.transforms.v2. Seeds torch's generator for the while."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for height, width, area in CROPS:
            yield from _windows(transforms, height, width, area)
        draws = _drawn(AUGMENTATION, 375, 500, (0.08, 1.0))
        yield from _factors(transforms, draws)
    yield from _shares(draws)


def ks_distance(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Kolmogorov and Smirnov's statistic of two samples: the greatest distance of their distribution functions."""
    ours, theirs = np.sort(ours), np.sort(theirs)
    points = np.concatenate([ours, theirs])
    below = [np.searchsorted(sample, points, side="right") / len(sample) for sample in (ours, theirs)]
    return float(abs(below[0] - below[1]).max())


def ks_allowed(ours: int, theirs: int) -> float:
    """The distance that two samples of one distribution exceed with probability CHANCE (their limit for many draws)."""
    return float(np.sqrt(-np.log(CHANCE / 2) / 2 * (1 / ours + 1 / theirs)))


def _drawn(augmentation: Augmentation, height: int, width: int, area: tuple[float, float]) -> Drawn:
    views = ViewsConfig(
        groups=(CropGroup(count=1, size=224, area=area, ratio=RATIO),), num_global_views=1, augmentation=augmentation
    )
    sizes_HW = np.tile(np.array([[height, width]], np.int32), (N, 1))
    return draw(views, sizes_HW)


def _windows(transforms: Any, height: int, width: int, area: tuple[float, float]) -> Iterator[Deviation]:
    windows = _drawn(AUGMENTATION, height, width, area).crop
    crop = transforms.RandomResizedCrop(224, scale=area, ratio=RATIO)
    image = torch.empty(3, height, width, dtype=torch.uint8)
    drawn = [crop.make_params([image]) for _ in range(N)]
    theirs = np.array([[window[name] for name in ("top", "left", "height", "width")] for window in drawn], float)
    ours = np.concatenate([windows.start_HW, windows.end_HW - windows.start_HW], axis=1).astype(float)
    parameters = f"{area[0]:g}-{area[1]:g} of {height} x {width} px"
    for name, our, their in zip(
        ("area", "ratio", "top", "left"), _of_windows(ours, height, width), _of_windows(theirs, height, width)
    ):
        yield _distance(f"crop's {name}", parameters, our, their)


def _of_windows(windows: NDArray[np.float64], height: int, width: int) -> list[NDArray[np.float64]]:
    """Area, ratio, and the places as shares of the room that there is."""
    top, left, h, w = windows.T
    return [h * w, w / h, top / np.maximum(height - h, 1), left / np.maximum(width - w, 1)]


def _factors(transforms: Any, draws: Drawn) -> Iterator[Deviation]:
    jitter = transforms.ColorJitter(
        brightness=JITTER.brightness, contrast=JITTER.contrast, saturation=JITTER.saturation, hue=JITTER.hue
    )
    theirs = [jitter.make_params([]) for _ in range(N)]
    colour = draws.colour
    jittered = colour.hue != 0
    coloured = jittered & (colour.saturation != 0)  # grey crops have none
    for name, ours in (
        ("brightness", colour.brightness[jittered]),
        ("contrast", colour.contrast[jittered]),
        ("saturation", colour.saturation[coloured]),
        ("hue", colour.hue[jittered] / 360),
    ):
        their = np.array([factors[f"{name}_factor"] for factors in theirs])
        yield _distance(f"{name} factor", f"strength {getattr(JITTER, name):g}", ours, their)
    blur = transforms.GaussianBlur(23, sigma=BLUR.sigma)
    sigmas = np.array([blur.make_params([])["sigma"][0] for _ in range(N)])
    yield _distance("blur's sigma", f"{BLUR.sigma[0]:g} to {BLUR.sigma[1]:g} px", draws.sigma[draws.sigma > 0], sigmas)


def _shares(draws: Drawn) -> Iterator[Deviation]:
    for name, happened, expected in (
        ("brightness before contrast", draws.colour.brightness_first, 0.5),
        ("flip", draws.mirrored, AUGMENTATION.flip),
        ("colour jitter", draws.colour.hue != 0, JITTER.probability),
        ("grey", draws.colour.saturation == 0, AUGMENTATION.greyscale),
        ("blur", draws.sigma > 0, BLUR.probability),
        ("solarise", draws.solarised, SOLARISE.probability),
    ):
        yield _share(name, happened, expected)


def _distance(name: str, parameters: str, ours: NDArray[Any], theirs: NDArray[Any]) -> Deviation:
    return Deviation(
        operator=name, parameters=parameters, compared=f"{len(ours)} with {len(theirs)} draws",
        measure=KS_DISTANCE, value=ks_distance(ours, theirs), allowed=ks_allowed(len(ours), len(theirs)),
    )  # fmt: skip


def _share(name: str, happened: NDArray[np.bool_], expected: float) -> Deviation:
    """Five standard deviations are allowed: more is chance once in a million."""
    return Deviation(
        operator=name, parameters=f"probability {expected:g}", compared=f"{len(happened)} draws", measure=SHARE,
        value=abs(float(happened.mean()) - expected),
        allowed=5 * float(np.sqrt(expected * (1 - expected) / len(happened))),
    )  # fmt: skip
