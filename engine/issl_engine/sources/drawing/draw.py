"""Draws one image of the shapes data: several copies of one kind of shape on a textured background.

The kind is the class. Everything else is a nuisance that says nothing about it: number of copies, their
positions, sizes, rotations and colours, the texture and its colours, the noise.
"""

import numpy as np
from PIL import Image, ImageDraw

from issl_engine.sources.drawing.nuisances import TEXTURES, Copy, Nuisances
from issl_engine.sources.drawing.outlines import KINDS, Points

SUPERSAMPLING = 3

COPIES = (5, 8)
"""Fewest and most copies per image; any quarter of the image's area then shows some."""
RADIUS = (0.13, 0.2)
"""Range of a copy's radius, as a share of the image's side."""
FIGURE_CONTRAST = (0.4, 0.6)
"""Range of the difference in brightness (0 to 1) between a copy and the background."""
BACKGROUND_VALUE = (0.2, 0.8)
TEXTURE_CONTRAST = 0.1
"""Largest difference in brightness between the background's two colours."""
TINT = 0.2
"""Largest departure of a colour channel from the brightness."""
FREQUENCY = (1.0, 4.0)
NOISE = (0.0, 8.0)


def draw(
    kind: str, size: int, random: np.random.Generator, *, rotation_degrees: float = 360
) -> tuple[Image.Image, Nuisances]:
    """A square RGB image with a side of ``size`` pixels, and what was drawn in it besides the class.

    Copies are turned by 0 to ``rotation_degrees``.
    """
    texture = TEXTURES[random.integers(len(TEXTURES))]
    frequency, angle = float(random.uniform(*FREQUENCY)), float(random.uniform(0, np.pi))
    value = float(random.uniform(*BACKGROUND_VALUE))
    colours = (
        _colour(value, random),
        _colour(float(np.clip(value + random.uniform(-TEXTURE_CONTRAST, TEXTURE_CONTRAST), 0, 1)), random),
    )
    canvas = _background(texture, frequency, angle, colours, size * SUPERSAMPLING, random)
    copies = _draw_copies(canvas, KINDS[kind](), value, size, random, np.radians(rotation_degrees))
    noise = float(random.uniform(*NOISE))
    pixels = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    pixels = pixels + noise * random.standard_normal(pixels.shape, dtype=np.float32)
    nuisances = Nuisances(
        texture=texture,
        texture_frequency=frequency,
        texture_angle=float(np.degrees(angle)),
        background_value=value,
        background_colours=(_hex(colours[0]), _hex(colours[1])),
        noise=noise,
        copies=copies,
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), nuisances


def _background(
    texture: str,
    frequency: float,
    angle: float,
    colours: tuple[Points, Points],
    side: int,
    random: np.random.Generator,
) -> Image.Image:
    """Two colours of about one brightness, mixed by a texture whose contrast is low beside the shapes'."""
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
    canvas: Image.Image,
    outline: Points,
    background_value: float,
    size: int,
    random: np.random.Generator,
    rotation_radians: float,
) -> tuple[Copy, ...]:
    brush = ImageDraw.Draw(canvas)
    copies: list[Copy] = []
    for radius in size * random.uniform(*RADIUS, random.integers(COPIES[0], COPIES[1] + 1)):
        x, y = _place(radius, copies, size, random)
        turn = random.uniform(0, rotation_radians)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = (np.array([x, y]) + radius * outline @ rotation.T) * SUPERSAMPLING
        colour = _hex(_colour(_figure_value(background_value, random), random))
        brush.polygon([tuple(point) for point in points], fill=colour)
        copies.append(
            Copy(x=float(x), y=float(y), radius=float(radius), rotation=float(np.degrees(turn)), colour=colour)
        )
    return tuple(copies)


def _figure_value(background_value: float, random: np.random.Generator) -> float:
    """A brightness that stands out from the background's, on whichever side leaves the room for it."""
    away = random.uniform(*FIGURE_CONTRAST)
    darker, brighter = background_value - away, background_value + away
    sides = [value for value in (darker, brighter) if 0.02 <= value <= 0.98]
    if not sides:
        return float(np.clip(darker if background_value > 0.5 else brighter, 0, 1))
    return float(sides[random.integers(len(sides))])


def _place(radius: float, placed: list[Copy], size: int, random: np.random.Generator) -> Points:
    """A centre in the image that overlaps earlier copies as little as a few tries allow."""
    best, best_gap = np.zeros(2), -np.inf
    for centre in random.uniform(0, size, (12, 2)):
        gaps = [np.hypot(centre[0] - c.x, centre[1] - c.y) - radius - c.radius for c in placed]
        gap = min(gaps, default=np.inf)
        if gap > best_gap:
            best, best_gap = centre, gap
        if gap > 0:
            break
    return best


def _colour(value: float, random: np.random.Generator) -> Points:
    """A random hue with this mean brightness, each channel 0 to 1."""
    tint = random.standard_normal(3)
    tint -= tint.mean()
    tint *= random.uniform(0.0, TINT) / np.abs(tint).max()
    return np.clip(value + tint, 0, 1)


def _hex(colour: Points) -> str:
    return "#" + "".join(f"{int(255 * channel):02x}" for channel in colour)
