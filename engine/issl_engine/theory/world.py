"""Images whose maximal invariant M(X) is known, since they are drawn from it.

An image shows one shape. Its kind, size and hue are factors; place, rotation, brightness, background and noise are
nuisances. The views of an image are other drawings with the factors that the augmentations *keep*: all else, the
other factors too, is drawn anew. So the equivalence class of an image is the values of its kept factors.

Letters: F finest classes (kind x size x hue), n drawings of each; C equivalence classes; N images in all; H side.
"""

import colorsys
import itertools
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field, model_validator
from torch import Tensor

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.sources.drawing.draw import SUPERSAMPLING
from issl_engine.sources.drawing.outlines import KINDS

Factor = Literal["kind", "size", "hue"]
FACTORS: tuple[Factor, ...] = ("kind", "size", "hue")
ORDER = ("ring", "plus", "bar", "disc", "bowtie", "crescent", "triangle", "star", "zigzag", "square")
"""Kinds, those that differ most at a few pixels first."""
RADII = (0.17, 0.43)
"""Range of a shape's radius over all sizes, as a share of the image's side."""
GAP = 0.4
"""Share of each size's range that is left out, so that sizes can be distinguished."""
PIXEL_MEAN, PIXEL_STD = 0.5, 0.25
"""Pixels (0 to 1) are normalised with these."""


class WorldConfig(Config):
    """Which shapes are drawn, and how many."""

    kinds: Annotated[int, Field(ge=1, le=len(ORDER))] = 4
    """Kinds of shapes."""
    sizes: Annotated[int, Field(ge=1, le=4)] = 1
    """Sizes of each kind."""
    hues: Annotated[int, Field(ge=1, le=8)] = 2
    """Hues of each kind and size, evenly spaced on the colour circle."""
    image_size: Annotated[int, Field(ge=16, le=64)] = 16
    """Side of the images, in pixels."""
    train_images: Annotated[int, Field(ge=4)] = 128
    """Images of each finest class for pretraining and for fitting probes."""
    test_images: Annotated[int, Field(ge=4)] = 64
    """Images of each finest class, drawn from another random stream, on which probes are judged."""

    @property
    def num_finest(self) -> int:
        """F, the number of combinations of the factors."""
        return self.kinds * self.sizes * self.hues

    @model_validator(mode="after")
    def _has_classes(self) -> Self:
        if self.num_finest < 3:
            raise Mistake(
                f"kinds x sizes x hues gives {self.num_finest} equivalence classes, and the theory says something "
                "from 3 on; raise one of them"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """One split: ``images_FnCHW`` float32 [F, n, 3, H, H], normalised."""

    images_FnCHW: Tensor

    @property
    def images(self) -> Tensor:
        """[N, 3, H, H], finest class after finest class."""
        return self.images_FnCHW.flatten(0, 1)

    @property
    def finest(self) -> Tensor:
        """The finest class of each image, int64 [N]."""
        classes, count = self.images_FnCHW.shape[:2]
        return torch.arange(classes).repeat_interleave(count)


@dataclass(frozen=True, kw_only=True)
class World:
    """Both splits, and what each finest class is made of."""

    config: WorldConfig
    train: Drawings
    test: Drawings

    def classes(self, keep: tuple[Factor, ...]) -> Tensor:
        """M(X) of each finest class where the augmentations keep these factors: int64 [F], 0 to C - 1."""
        return invariant_of_finest(self.config, keep)


def invariant_of_finest(config: WorldConfig, keep: tuple[Factor, ...]) -> Tensor:
    """World.classes without the images: int64 [F]."""
    factors_F3 = np.array(list(itertools.product(range(config.kinds), range(config.sizes), range(config.hues))))
    kept = factors_F3[:, [FACTORS.index(factor) for factor in FACTORS if factor in keep]]
    return torch.from_numpy(np.unique(kept, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64))


def draw_world(config: WorldConfig, seed: int) -> World:
    """Draws all images. Equal seeds give equal pixels."""
    return World(
        config=config,
        train=_draw_split(config, config.train_images, seed, stream=0),
        test=_draw_split(config, config.test_images, seed, stream=1),
    )


def _draw_split(config: WorldConfig, count: int, seed: int, *, stream: int) -> Drawings:
    pixels = np.empty((config.num_finest, count, config.image_size, config.image_size, 3), dtype=np.float32)
    combinations = itertools.product(range(config.kinds), range(config.sizes), range(config.hues))
    for finest, (kind, size, hue) in enumerate(combinations):
        random = np.random.default_rng((seed, stream, finest))
        for index in range(count):
            pixels[finest, index] = _draw(config, kind, size, hue, random)
    images = torch.from_numpy((pixels - PIXEL_MEAN) / PIXEL_STD).permute(0, 1, 4, 2, 3).contiguous()
    return Drawings(images_FnCHW=images)


def _draw(config: WorldConfig, kind: int, size: int, hue: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Pixels [H, H, 3], 0 to 1. The nuisances are drawn here."""
    side = config.image_size * SUPERSAMPLING
    grey = random.uniform(0.05, 0.35)
    ramp = np.linspace(-0.1, 0.1, side) * random.uniform(-1, 1)
    background = np.clip(grey + ramp[:, None] + 0.5 * ramp[None] * random.uniform(-1, 1), 0, 1)
    canvas = Image.fromarray((255 * np.repeat(background[..., None], 3, axis=2)).astype(np.uint8))
    radius = side * random.uniform(*_radii(config, size))
    turn = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = random.uniform(min(radius, side / 2), max(side - radius, side / 2), 2)
    shade = (hue + random.uniform(-0.15, 0.15)) / config.hues
    colour = colorsys.hsv_to_rgb(shade % 1.0, random.uniform(0.7, 1.0), random.uniform(0.75, 1.0))
    outline = centre + 0.9 * radius * KINDS[ORDER[kind]]() @ rotation.T
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=tuple(int(255 * c) for c in colour))
    small = np.asarray(canvas.resize((config.image_size,) * 2, Image.Resampling.BOX), dtype=np.float32) / 255
    noise = random.uniform(0, 0.03) * random.standard_normal(small.shape, dtype=np.float32)
    return np.clip(small + noise, 0, 1).astype(np.float32)


def _radii(config: WorldConfig, size: int) -> tuple[float, float]:
    """Range of the radius of shapes of this size; a single size is a large one."""
    width = (RADII[1] - RADII[0]) / max(config.sizes, 2)
    low = RADII[1] - (config.sizes - size) * width
    return low, low + (1 - GAP) * width
