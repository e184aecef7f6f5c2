"""Decoding, normalisation and the probes' resize and centre crop, beside Pillow and torchvision.

Letters: N images, H height, W width.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from issl_engine.loading import EvaluationImages
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import ViewsConfig
from issl_engine.views.preprocessing import Preprocessing
from issl_profiling.parity.deviation import Deviation
from issl_profiling.parity.images import image_set, loaded_crops, one_crop, photo_like
from issl_profiling.parity.operators import CLOSE, EXACT, INTERPOLATIONS, deviation_in_levels

N, SIDE = 12, 64
JPEG_QUALITY = 90


def compare_pipelines(functional: Any) -> Iterator[Deviation]:
    """``functional`` is torchvision.transforms.v2.functional."""
    yield _normalised(functional)
    for interpolation in INTERPOLATIONS:
        yield from _evaluated(functional, interpolation)
    with tempfile.TemporaryDirectory() as folder:
        yield _decoded(Path(folder))


def _normalised(F: Any) -> Deviation:
    usual = ViewsConfig.model_validate({"groups": [{"count": 2, "size": SIDE}]})
    pixels = photo_like(N, SIDE, SIDE)
    views = one_crop(size=SIDE).model_copy(update={"mean": usual.mean, "std": usual.std})
    ours, images, _ = loaded_crops(image_set(pixels), pixels, views)
    theirs = F.normalize(F.to_dtype(images, torch.float32, scale=True), list(usual.mean), list(usual.std))
    in_levels = 255 * torch.tensor(usual.std)[:, None, None]
    return deviation_in_levels(
        ((ours - theirs) * in_levels).abs(), "normalise", "ImageNet",
        "all values, in grey levels", allowed=EXACT,
    )  # fmt: skip


def _evaluated(F: Any, interpolation: Literal["bilinear", "bicubic"]) -> Iterator[Deviation]:
    for height, width, resize, crop in ((100, 128, 64, 56), (90, 60, 72, 63)):
        pixels = photo_like(N, height, width)
        batches = EvaluationImages(
            image_set(pixels),
            Preprocessing(
                resize=resize,
                crop=crop,
                mean=(0.0, 0.0, 0.0),
                std=(1 / 255, 1 / 255, 1 / 255),
                interpolation=interpolation,
            ),
            batch_size=N,
            device=torch.device("cpu"),
            num_threads=1,
        )
        ((ours, _),) = batches
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        theirs = F.center_crop(F.resize(images, [resize], interpolation=interpolation, antialias=True), [crop])
        yield deviation_in_levels(
            (ours.double() - theirs).abs(), f"evaluation {interpolation}",
            f"{height} x {width} to {resize} and {crop} px", "all pixels",
        )  # fmt: skip


def _decoded(folder: Path) -> Deviation:
    paths = []
    for index, pixels in enumerate(photo_like(N, SIDE, SIDE)):
        paths.append(str(folder / f"{index}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=JPEG_QUALITY)
    decoded = np.stack([_by_pillow(path) for path in paths])
    files = ImageSet(labels=np.zeros(N, np.int64), sizes_HW=np.full((N, 2), SIDE, np.int32), paths=tuple(paths))
    ours, theirs, _ = loaded_crops(files, decoded, one_crop(size=SIDE))
    parameters = f"quality {JPEG_QUALITY}"
    return deviation_in_levels((ours - theirs).abs(), "decode JPEG", parameters, "Pillow, all pixels", allowed=CLOSE)


def _by_pillow(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
