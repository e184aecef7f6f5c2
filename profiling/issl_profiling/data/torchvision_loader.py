"""The same crops by torchvision's transforms v2 in the workers of torch's DataLoader: the usual loader of the field."""

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from issl_engine.sources.base import ImageSet
from issl_engine.sources.images.picture import open_image
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_profiling.data.cases import DataCase
from issl_profiling.torchvision_oracle import load_torchvision

BLUR_KERNEL_SHARE = 0.1
"""Side of the blur's kernel over that of the crop, as in SimCLR (Chen et al. 2020, appendix A)."""
Backend = Literal["tensor", "PIL"]
WITH_COUNTERPART = frozenset({"flip", "colour_jitter", "greyscale", "blur", "solarise"})
"""Keys of an augmentation."""


class TorchvisionViews:
    """Endless batches of views as TrainingViews makes them, where ``no_counterpart`` finds nothing to say."""

    def __init__(self, case: DataCase, backend: Backend) -> None:
        load_torchvision()
        views = [view_transform(group, case.views, backend) for group in case.views.group_of_view]
        self._loader = DataLoader(
            _Views(case.images, views, backend), batch_size=case.batch_size, shuffle=True, drop_last=True,
            num_workers=case.decode_threads, prefetch_factor=case.prefetch_batches,
        )  # fmt: skip
        self._batches: Iterator[list[Tensor]] | None = None

    def __iter__(self) -> "TorchvisionViews":
        return self

    def __next__(self) -> list[Tensor]:
        if self._batches is None:
            self._batches = iter(self._loader)
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            return next(self._batches)

    def close(self) -> None:
        """Ends the workers."""
        self._batches = None


class _Views(Dataset[list[Tensor]]):
    def __init__(self, images: ImageSet, views: list[Callable[[Any], Tensor]], backend: Backend) -> None:
        self.images, self.views, self.backend = images, views, backend

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        image: Any = picture(self.images, index)
        if self.backend == "tensor":
            image = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return [view(image) for view in self.views]


def picture(images: ImageSet, index: int) -> Image.Image:
    """The image as PIL has it: what a dataset hands to transforms."""
    if images.pixels is not None:
        return open_image(images, index)
    return Image.open(io.BytesIO(images.stored_bytes(index))).convert("RGB")


def view_transform(group: CropGroup, views: ViewsConfig, backend: Backend) -> Callable[[Any], Tensor]:
    """One view as a composition of transforms, in our order and with our probabilities."""
    v2 = import_module("torchvision.transforms.v2")
    augmentation = views.augmentation_of(group)
    mode = v2.InterpolationMode(views.interpolation)
    steps: list[Any] = [
        v2.RandomResizedCrop(group.size, group.area, group.ratio, interpolation=mode, antialias=True),
        v2.RandomHorizontalFlip(augmentation.flip),
    ]
    if jitter := augmentation.colour_jitter:
        change = v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        steps.append(v2.RandomApply([change], jitter.probability))
    if augmentation.greyscale:
        steps.append(v2.RandomGrayscale(augmentation.greyscale))
    if blur := augmentation.blur:
        kernel = 2 * int(BLUR_KERNEL_SHARE * group.size / 2) + 1
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, blur.sigma)], blur.probability))
    if solarise := augmentation.solarise:
        steps.append(v2.RandomSolarize(solarise.threshold, solarise.probability))
    to_tensor = [v2.ToImage()] if backend == "PIL" else []
    composed: Callable[[Any], Tensor] = v2.Compose(
        [*steps, *to_tensor, v2.ToDtype(torch.float32, scale=True), v2.Normalize(*views.normalisation_of(group))]
    )
    return composed


def no_counterpart(views: ViewsConfig) -> str | None:
    """Why these views cannot be made by torchvision here, in one sentence; None if they can."""
    try:
        load_torchvision()
    except ImportError as error:
        return str(error)
    for group in views.groups:
        augmentation = views.augmentation_of(group)
        for key in type(augmentation).model_fields:
            if key not in WITH_COUNTERPART and getattr(augmentation, key):
                return f"augmentation.{key} has no counterpart in this comparison"
    return None
