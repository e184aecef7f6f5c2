"""A picture of what the encoder will see: some images, and their crops."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from issl_engine.data.dali_pipeline import TrainingViews
from issl_engine.data.sources.base import ImageSet
from issl_engine.data.views import CropGroup, MultiCropBatch, ViewsConfig

PAPER, INK = (255, 255, 255), (40, 40, 40)
GAP, HEADER = 6, 34
SMALLEST_CELL = 72
"""Small crops are enlarged by a whole number to about this many pixels."""


def write_contact_sheet(path: Path, images: ImageSet, views: ViewsConfig, *, num_images: int, seed: int) -> None:
    """One row an image: the original, then all crops, group by group under the group's parameters. PNG."""
    num_images = min(num_images, len(images))
    loader = TrainingViews(
        images, views, batch_size=num_images, rank=0, world_size=1, seed=seed, device=torch.device("cpu"), num_threads=1
    )
    batch = next(loader)
    loader.close()
    cell = max(SMALLEST_CELL, views.largest_size)
    columns = [cell, *(_enlarged(group.size) for group in views.groups for _ in range(group.count))]
    lefts = np.cumsum([GAP, *(width + GAP for width in columns)])
    row_height = max(columns) + GAP
    sheet = Image.new("RGB", (int(lefts[-1]), HEADER + num_images * row_height), PAPER)
    _write_header(ImageDraw.Draw(sheet), views.groups, lefts)
    for row in range(num_images):
        top = HEADER + row * row_height
        original = _original(images, int(batch.ids[row]))
        original.thumbnail((cell, cell))  # only ever makes it smaller
        scale = max(1, cell // max(original.size))
        original = original.resize((original.width * scale, original.height * scale), Image.Resampling.NEAREST)
        sheet.paste(original, (int(lefts[0]), top))
        for column, crop in enumerate(_crops(batch, row, views), start=1):
            size = (columns[column], columns[column])
            sheet.paste(crop.resize(size, Image.Resampling.NEAREST), (int(lefts[column]), top))
    sheet.save(path)


def _enlarged(size: int) -> int:
    return size * max(1, round(SMALLEST_CELL / size))


def _write_header(brush: ImageDraw.ImageDraw, groups: tuple[CropGroup, ...], lefts: NDArray[np.int64]) -> None:
    brush.text((int(lefts[0]), 4), "image", fill=INK)
    column = 1
    for group in groups:
        text = f"{group.count} x {group.size} px\narea {group.area[0]:g}-{group.area[1]:g}"
        brush.text((int(lefts[column]), 4), text, fill=INK)
        column += group.count


def _original(images: ImageSet, index: int) -> Image.Image:
    if images.paths is not None:
        with Image.open(images.paths[index]) as image:
            return image.convert("RGB")
    assert images.pixels is not None
    return Image.fromarray(images.pixels[index].squeeze()).convert("RGB")


def _crops(batch: MultiCropBatch, row: int, views: ViewsConfig) -> list[Image.Image]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (views.mean, views.std))
    crops = []
    for group in batch.crops:
        for crop in group[:, row]:
            pixels = (255 * (crop * std + mean)).round().clamp(0, 255).to(torch.uint8)
            crops.append(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    return crops
