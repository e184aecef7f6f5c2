"""A picture of what the encoder will see: some images, and their crops."""

import io
import textwrap
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.sources.images.picture import open_image
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_engine.whole_file import write_whole

PAPER, INK = (255, 255, 255), (40, 40, 40)
GAP, LINE = 6, 14
"""In pixels."""
LINE_LENGTH = 120
"""Letters; a longer description goes on in a line of its own."""
MASKED_GREY, MASKED_SHARE = 128, 0.2
"""A masked patch is this grey, but for a share of its own colours."""
SMALLEST_CELL = 72
"""Small crops are enlarged by a whole number to about this many pixels."""


def write_contact_sheet(path: Path, images: ImageSet, views: ViewsConfig, *, num_images: int, seed: int) -> None:
    """Writes a PNG: above, what each group of crops does; below, one row per image, the original and all crops.

    The images are the first ``num_images`` of a run's first epoch with this seed. Raises Mistake as
    TrainingViews does, and OSError when ``path`` cannot be written.
    """
    num_images = min(num_images, len(images))
    loader = TrainingViews(
        images,
        views,
        batch_size=num_images,
        rank=0,
        world_size=1,
        seed=seed,
        device=torch.device("cpu"),
        num_threads=1,
    )
    batch = next(loader)
    loader.close()
    crop_columns = [_enlarged(group.size) for group in views.group_of_view]
    cell = max(crop_columns)
    columns = [cell, *crop_columns]
    lefts = np.cumsum([GAP, *(width + GAP for width in columns)])
    legend = [line for index, group in enumerate(views.groups) for line in group_legend(_name(index), group, views)]
    header = GAP + LINE * (len(legend) + 1) + GAP
    row_height = cell + GAP
    width = max(int(lefts[-1]), *(_text_width(line) for line in legend))
    sheet = Image.new("RGB", (width, header + num_images * row_height), PAPER)
    _write_header(ImageDraw.Draw(sheet), legend, views.groups, lefts)
    for row in range(num_images):
        top = header + row * row_height
        sheet.paste(_original(images, int(batch.ids[row]), cell), (int(lefts[0]), top))
        for column, crop in enumerate(_shown_crops(batch, row, views), start=1):
            size = (columns[column], columns[column])
            sheet.paste(crop.resize(size, Image.Resampling.NEAREST), (int(lefts[column]), top))
    picture = io.BytesIO()
    sheet.save(picture, format="PNG")
    write_whole(path, picture.getvalue())


def group_legend(name: str, group: CropGroup, views: ViewsConfig) -> list[str]:
    """A few lines on one group: its crops, and what happens to them."""
    crop, *_ = views.transforms_of(group)
    parts = [views.augmentation_of(group).legend()]
    if group.mask is not None:
        parts.append(group.mask.legend(group.size))
    if group.mean is not None or group.std is not None:
        mean, std = views.normalisation_of(group)
        parts.append(f"mean {_numbers(mean)}, std {_numbers(std)}")
    indent = " " * 4
    wrapped = (textwrap.wrap(part, LINE_LENGTH, initial_indent=indent, subsequent_indent=2 * indent) for part in parts)
    return [f"{name}: {group.count} x {crop.legend()}", *(line for lines in wrapped for line in lines)]


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _enlarged(size: int) -> int:
    return size * max(1, round(SMALLEST_CELL / size))


def _text_width(line: str) -> int:
    return 2 * GAP + int(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(line))


def _name(index: int) -> str:
    return f"groups.{index}"


def _write_header(
    brush: ImageDraw.ImageDraw, legend: list[str], groups: tuple[CropGroup, ...], lefts: NDArray[np.int64]
) -> None:
    for number, line in enumerate(legend):
        brush.text((GAP, GAP + number * LINE), line, fill=INK)
    top = GAP + len(legend) * LINE + GAP // 2
    brush.text((int(lefts[0]), top), "image", fill=INK)
    column = 1
    for index, group in enumerate(groups):
        brush.text((int(lefts[column]), top), _name(index), fill=INK)
        column += group.count


def _original(images: ImageSet, index: int, cell: int) -> Image.Image:
    """The whole image, made smaller to fit a square cell or larger by a whole number."""
    original = open_image(images, index)
    original.thumbnail((cell, cell))  # only ever makes it smaller
    scale = max(1, cell // max(original.size))
    return original.resize((original.width * scale, original.height * scale), Image.Resampling.NEAREST)


def _shown_crops(batch: MultiCropBatch, row: int, views: ViewsConfig) -> list[Image.Image]:
    """All crops of one image, each by its group's normalisation back in grey levels, masked patches dimmed."""
    shown = []
    for group, crops, masks in zip(views.groups, batch.crops, batch.masks, strict=True):
        mean, std = (torch.tensor(values)[:, None, None] for values in views.normalisation_of(group))
        for view, crop in enumerate(crops[:, row]):
            pixels = (255 * (crop * std + mean)).round().clamp(0, 255)
            if masks is not None:
                pixels = _dimmed(pixels, masks[view, row])
            shown.append(Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).numpy()))
    return shown


def _dimmed(pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Masked patches fade into grey. Pixels [3, size, size], mask [patches, patches]."""
    patch = pixels.shape[-1] // mask.shape[-1]
    hidden = mask.repeat_interleave(patch, dim=0).repeat_interleave(patch, dim=1)
    return torch.where(hidden, MASKED_GREY + (pixels - MASKED_GREY) * MASKED_SHARE, pixels)
