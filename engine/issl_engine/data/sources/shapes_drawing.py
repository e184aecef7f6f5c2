"""Draws one image of the shapes data: several copies of one kind of shape on a textured background.

The kind is the class. Everything else is a nuisance that says nothing about it: number of copies, their positions,
sizes, rotations and colours, the texture and its colours, the noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
SUPERSAMPLING = 3


def _regular(corners: int, turn: float = 0.0) -> Points:
    angle = 2 * np.pi * (np.arange(corners) / corners) + turn
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _disc() -> Points:
    return 0.85 * _regular(40)


def _ring() -> Points:
    circle = np.concatenate([_regular(40), _regular(40)[:1]])
    return np.concatenate([0.95 * circle, 0.55 * circle[::-1]])


def _triangle() -> Points:
    return 1.1 * _regular(3)


def _square() -> Points:
    return 1.1 * _regular(4)


def _plus() -> Points:
    a, b = 0.3, 1.0
    return np.array(
        [(a, b), (a, a), (b, a), (b, -a), (a, -a), (a, -b), (-a, -b), (-a, -a), (-b, -a), (-b, a), (-a, a), (-a, b)]
    )


def _star() -> Points:
    points = 1.15 * _regular(10)
    points[1::2] *= 0.4
    return points


def _crescent() -> Points:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 30)
    start, end = (np.array([np.cos(a), np.sin(a)]) for a in (outer[0], outer[-1]))
    centre = np.array([0.55, 0.0])
    first, last = (np.arctan2(*(p - centre)[::-1]) for p in (end, start))
    radius = np.linalg.norm(start - centre)
    inner = np.linspace(first + 2 * np.pi, last, 30)
    inner_arc = centre + radius * np.stack([np.cos(inner), np.sin(inner)], axis=1)
    return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), inner_arc])


def _bar() -> Points:
    return np.array([(1.15, 0.28), (1.15, -0.28), (-1.15, -0.28), (-1.15, 0.28)])


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, y + 2.5], axis=1) / 16


def _chevron() -> Points:
    return np.array([(-0.9, 0.9), (0.0, 0.9), (0.9, 0.0), (0.0, -0.9), (-0.9, -0.9), (0.0, 0.0)])


KINDS: dict[str, Callable[[], Points]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "plus": _plus,
    "star": _star,
    "crescent": _crescent,
    "bar": _bar,
    "heart": _heart,
    "chevron": _chevron,
}
"""Class name → outline around the origin, radius about one."""

TEXTURES = ("gradient", "stripes", "checks", "blobs")


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """What was drawn besides the class; scale is the mean radius in pixels, noise the standard deviation of pixels."""

    copies: int
    scale: float
    texture: str
    texture_frequency: float
    background_value: float
    noise: float


def draw(kind: str, size: int, random: np.random.Generator) -> tuple[Image.Image, Nuisances]:
    """An RGB image of ``size`` px a side."""
    texture = TEXTURES[random.integers(len(TEXTURES))]
    frequency = float(random.uniform(1.0, 4.0))
    value = float(random.uniform(0.15, 0.85))
    canvas = _background(texture, frequency, value, size * SUPERSAMPLING, random)
    copies = int(random.integers(5, 10))
    radii = size * random.uniform(0.11, 0.19, copies)
    _draw_copies(canvas, KINDS[kind](), radii, value, size, random)
    noise = float(random.uniform(0, 12))
    pixels = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    pixels = pixels + noise * random.standard_normal(pixels.shape, dtype=np.float32)
    nuisances = Nuisances(
        copies=copies, scale=float(radii.mean()), texture=texture, texture_frequency=frequency,
        background_value=value, noise=noise,
    )  # fmt: skip
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), nuisances


def _background(
    texture: str, frequency: float, value: float, side: int, random: np.random.Generator
) -> Image.Image:
    """Two colours of about one brightness, mixed by a texture whose contrast is low beside the shapes'."""
    colours = _colour(value, random), _colour(np.clip(value + random.uniform(-0.12, 0.12), 0, 1), random)
    angle = random.uniform(0, np.pi)
    y, x = np.mgrid[0:48, 0:48] / 48.0
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    phase = random.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * frequency * along + phase[0])
    if texture == "gradient":
        mix = along - along.min()
        mix /= mix.max()
    elif texture == "stripes":
        mix = 0.5 + 0.5 * wave
    elif texture == "checks":
        mix = 0.5 + 0.5 * wave * np.sin(2 * np.pi * frequency * across + phase[1])
    else:
        cells = random.random((int(2 * frequency) + 2,) * 2).astype(np.float32)
        mix = np.asarray(Image.fromarray(cells).resize((48, 48), Image.Resampling.BICUBIC)).clip(0, 1)
    pixels = mix[..., None] * colours[0] + (1 - mix[..., None]) * colours[1]
    return Image.fromarray((255 * pixels).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)


def _draw_copies(
    canvas: Image.Image, outline: Points, radii: Points, background_value: float, size: int, random: np.random.Generator
) -> None:
    brush = ImageDraw.Draw(canvas)
    placed: list[tuple[Points, float]] = []
    for radius in radii:
        centre = _place(radius, placed, size, random)
        placed.append((centre, radius))
        turn = random.uniform(0, 2 * np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = (centre + radius * outline @ rotation.T) * SUPERSAMPLING
        away = random.uniform(0.35, 0.6)
        value = background_value + away if background_value < 0.5 else background_value - away
        colour = tuple(int(255 * channel) for channel in _colour(float(np.clip(value, 0, 1)), random))
        brush.polygon([tuple(point) for point in points], fill=colour)


def _place(radius: float, placed: list[tuple[Points, float]], size: int, random: np.random.Generator) -> Points:
    """A centre in the image that overlaps earlier copies as little as a few tries allow."""
    best, best_gap = np.zeros(2), -np.inf
    for centre in random.uniform(0, size, (12, 2)):
        gap = min((np.linalg.norm(centre - other) - radius - r for other, r in placed), default=np.inf)
        if gap > best_gap:
            best, best_gap = centre, gap
        if gap > 0:
            break
    return best


def _colour(value: float, random: np.random.Generator) -> Points:
    """A random hue with this mean brightness, 0 to 1 a channel."""
    tint = random.standard_normal(3)
    tint -= tint.mean()
    tint *= random.uniform(0.0, 0.22) / np.abs(tint).max()
    return np.clip(value + tint, 0, 1)
