"""DALI executes the augmentations that ``draws`` decided: decode once, cut every view, normalise. The only DALI import.

Where DALI differs from torchvision's ColorJitter: the order is always hue, saturation, contrast, brightness, and
contrast turns about mid-grey (128), not about the image's mean. Resizing is antialiased, as torchvision's is.

Letters: B images of a batch, V views, H height, W width, C channels.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image
from torch import Tensor

from issl_engine.data.draws import ViewDraws, draw_views, epoch_order
from issl_engine.data.sources.base import ImageSet
from issl_engine.data.views import Augmentation, MultiCropBatch, ViewsConfig

_log = logging.getLogger("issl_engine")

INTERPOLATION = {"bilinear": types.DALIInterpType.INTERP_LINEAR, "bicubic": types.DALIInterpType.INTERP_CUBIC}
MID_GREY = 128.0


def check_views_fit(images: ImageSet, views: ViewsConfig) -> None:
    """Raises ValueError when a crop group's size exceeds every image: crops would be enlarged throughout."""
    largest = int(images.sizes_HW.min(axis=1).max())
    for index, group in enumerate(views.groups):
        if group.size > largest:
            raise ValueError(
                f"views.groups.{index}.size: crops of {group.size} px are larger than the images (at most {largest} px "
                f"on their shorter side); make the crops {largest} px or smaller"
            )


class TrainingViews:
    """An endless iterator of MultiCropBatch over epochs, for one rank.

    Global batch b of an epoch holds positions [b·B·W, (b+1)·B·W) of the epoch's permutation and this rank the r-th
    slice of B; images of the incomplete last batch wait for another epoch. ``start_batch`` batches are passed over
    without being made. Raises ValueError when a batch is larger than the data, and for an image that cannot be decoded.
    """

    def __init__(
        self, images: ImageSet, views: ViewsConfig, *, batch_size: int, rank: int, world_size: int, seed: int,
        device: torch.device, num_threads: int, prefetch_batches: int = 2, start_batch: int = 0,
    ) -> None:  # fmt: skip
        self.batches_per_epoch = len(images) // (batch_size * world_size)
        if self.batches_per_epoch == 0:
            raise ValueError(
                f"the batch of {batch_size * world_size} images is larger than the {len(images)} images of the training "
                "split; lower training.global_batch_size"
            )
        self.images, self.views = images, views
        self.batch_size, self.rank, self.world_size, self.seed = batch_size, rank, world_size, seed
        self.device = device
        self.batches_consumed = start_batch
        self._next_to_feed = start_batch
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._pipeline = _build(
            lambda: _training_graph(images, views, self._feed, device),
            batch_size=batch_size, num_threads=num_threads, device=device, prefetch=prefetch_batches,
        )  # fmt: skip

    def __iter__(self) -> "TrainingViews":
        return self

    def __next__(self) -> MultiCropBatch:
        ids = self._ids(self.batches_consumed)
        try:
            outputs = self._pipeline.run()
        except RuntimeError as error:
            raise _undecodable(self.images, ids, error) from error
        crops, first = [], 0
        for group in self.views.groups:
            crops.append(torch.stack([_to_torch(outputs[first + k]) for k in range(group.count)]))
            first += group.count
        self.batches_consumed += 1
        return MultiCropBatch(
            crops=tuple(crops), ids=torch.from_numpy(ids), labels=torch.from_numpy(self.images.labels[ids])
        )

    def close(self) -> None:
        """Frees DALI's threads and buffers."""
        del self._pipeline

    def _place(self, batch: int) -> tuple[int, int]:
        """(epoch, first position of this rank's slice)."""
        epoch, within = divmod(batch, self.batches_per_epoch)
        return epoch, (within * self.world_size + self.rank) * self.batch_size

    def _ids(self, batch: int) -> NDArray[np.int64]:
        epoch, first = self._place(batch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(len(self.images), self.seed, epoch)
        return self._order[1][first : first + self.batch_size]

    def _feed(self) -> tuple[Any, ...]:
        batch, self._next_to_feed = self._next_to_feed, self._next_to_feed + 1
        epoch, first = self._place(batch)
        ids = self._ids(batch)
        draws = draw_views(
            self.views, self.images.sizes_HW[ids], seed=self.seed, epoch=epoch, first_position=first
        )
        arguments: list[Any] = [_image_inputs(self.images, ids)]
        for draw, augmentation in zip(draws, _augmentations(self.views), strict=True):
            arguments += _arguments(draw, augmentation, _channels(self.images))
        return tuple(arguments)


class EvaluationImages:
    """All images once, in order: (float [b, 3, crop, crop] normalised, int64 labels [b]); the last batch may be short.

    The shorter side is resized to ``resize`` (antialiased), then the centre is cut out.
    """

    def __init__(
        self, images: ImageSet, *, resize: int, crop: int, mean: tuple[float, float, float],
        std: tuple[float, float, float], batch_size: int, device: torch.device, num_threads: int, interpolation: str,
    ) -> None:  # fmt: skip
        self.images, self.batch_size, self.device = images, min(batch_size, len(images)), device
        self.num_threads = num_threads
        self._graph = lambda feed: _evaluation_graph(images, resize, crop, mean, std, interpolation, feed, device)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ids = np.arange(len(self.images), dtype=np.int64)
        # Every DALI batch is full: the last one is filled up with the last image, and cut again below.
        padded = np.pad(ids, (0, len(self) * self.batch_size - len(ids)), mode="edge").reshape(len(self), -1)
        rows = iter(padded)

        def feed() -> tuple[Any, ...]:
            return (_image_inputs(self.images, next(rows, padded[-1])),)

        pipeline = _build(
            lambda: self._graph(feed),
            batch_size=self.batch_size, num_threads=self.num_threads, device=self.device, prefetch=2,
        )  # fmt: skip
        for index, batch in enumerate(padded):
            try:
                (output,) = pipeline.run()
            except RuntimeError as error:
                raise _undecodable(self.images, batch, error) from error
            kept = min(self.batch_size, len(ids) - index * self.batch_size)
            yield _to_torch(output)[:kept].clone(), torch.from_numpy(self.images.labels[batch[:kept]])


def _build(
    graph: Callable[[], tuple[Any, ...]], *, batch_size: int, num_threads: int, device: torch.device, prefetch: int
) -> Pipeline:
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=num_threads,
        device_id=(device.index or 0) if device.type == "cuda" else None,
        prefetch_queue_depth=prefetch,
    )
    with pipeline:
        pipeline.set_outputs(*graph())
    pipeline.build()
    return pipeline


def _augmentations(views: ViewsConfig) -> list[Augmentation]:
    return [group.augmentation or views.augmentation for group in views.groups for _ in range(group.count)]


def _image_inputs(images: ImageSet, ids: NDArray[np.int64]) -> Any:
    """File names as bytes, or pixels, of the batch."""
    if images.paths is not None:
        return [np.frombuffer(images.paths[i].encode(), dtype=np.uint8) for i in ids]
    assert images.pixels is not None
    return images.pixels[ids]


def _arguments(draw: ViewDraws, augmentation: Augmentation, channels: int) -> list[NDArray[Any]]:
    """The draws that this augmentation's operators take, in the order in which the graph reads them."""
    arguments: list[NDArray[Any]] = [draw.start_HW, draw.end_HW, draw.flip.astype(np.int32)]
    if _has_colour(augmentation):
        # Hue and saturation do nothing to one channel.
        arguments += [draw.contrast, draw.brightness] + [draw.hue, draw.saturation] * (channels == 3)
    if _has_blur(augmentation):
        arguments += [np.maximum(draw.sigma, 1e-3), _blur_window(draw.sigma)]
    if _has_solarise(augmentation):
        arguments += [draw.solarise]
    return arguments


def _blur_window(sigma: NDArray[np.float32]) -> NDArray[np.int32]:
    """Odd window of three standard deviations on each side; 1 leaves the image as it is."""
    return np.where(sigma > 0, 2 * np.ceil(3 * sigma) + 1, 1).astype(np.int32)


def _has_colour(augmentation: Augmentation) -> bool:
    jitter = augmentation.colour_jitter
    return augmentation.greyscale > 0 or (jitter is not None and jitter.probability > 0)


def _has_blur(augmentation: Augmentation) -> bool:
    return augmentation.blur is not None and augmentation.blur.probability > 0


def _has_solarise(augmentation: Augmentation) -> bool:
    return augmentation.solarise is not None and augmentation.solarise.probability > 0


def _channels(images: ImageSet) -> int:
    return 3 if images.pixels is None else images.pixels.shape[-1]


def _decode(images: ImageSet, source: Any, device: torch.device) -> Any:
    """Pixels [H, W, C] on the device."""
    on_gpu = device.type == "cuda"
    if images.paths is not None:
        encoded = fn.io.file.read(source)
        return fn.decoders.image(encoded, device="mixed" if on_gpu else "cpu", output_type=types.DALIImageType.RGB)
    return source.gpu() if on_gpu else source


def _training_graph(
    images: ImageSet, views: ViewsConfig, feed: Callable[[], tuple[Any, ...]], device: torch.device
) -> tuple[Any, ...]:
    groups = [group for group in views.groups for _ in range(group.count)]
    augmentations = _augmentations(views)
    colours = 4 if _channels(images) == 3 else 2
    counts = [3 + colours * _has_colour(a) + 2 * _has_blur(a) + _has_solarise(a) for a in augmentations]
    layouts: list[str] = ["" if images.paths is not None else "HWC"]
    inputs = fn.external_source(
        source=feed, num_outputs=1 + sum(counts), batch=True, layout=layouts + [""] * sum(counts)
    )
    decoded = _decode(images, inputs[0], device)
    outputs, first = [], 1
    for group, augmentation, count in zip(groups, augmentations, counts, strict=True):
        outputs.append(
            _view(decoded, list(inputs[first : first + count]), group.size, augmentation, views, _channels(images))
        )
        first += count
    return tuple(outputs)


def _view(
    decoded: Any, arguments: list[Any], size: int, augmentation: Augmentation, views: ViewsConfig, channels: int
) -> Any:
    """One view [3, size, size], float, normalised."""
    start, end, flip = arguments[:3]
    rest = iter(arguments[3:])
    view = fn.resize(
        decoded, roi_start=start, roi_end=end, size=[size, size], antialias=True,
        interp_type=INTERPOLATION[views.interpolation],
    )  # fmt: skip
    if _has_colour(augmentation):
        contrast, brightness = next(rest), next(rest)
        if channels == 3:
            view = fn.color_twist(
                view, contrast=contrast, brightness=brightness, hue=next(rest), saturation=next(rest)
            )
        else:
            view = fn.brightness_contrast(
                view, contrast=contrast, brightness=brightness, contrast_center=MID_GREY
            )
    if _has_blur(augmentation):
        sigma, window = next(rest), next(rest)
        view = fn.gaussian_blur(view, sigma=sigma, window_size=window)
    if augmentation.solarise is not None and _has_solarise(augmentation):
        inverted = (view >= augmentation.solarise.threshold) * fn.cast(next(rest), dtype=types.DALIDataType.UINT8)
        view = fn.cast(inverted * (255 - view) + (1 - inverted) * view, dtype=types.DALIDataType.UINT8)
    return _normalise(view, views.mean, views.std, channels, mirror=flip)


def _normalise(
    view: Any, mean: tuple[float, float, float], std: tuple[float, float, float], channels: int, **settings: Any
) -> Any:
    scaled_mean, scaled_std = [255 * m for m in mean], [255 * s for s in std]
    if channels == 3:
        return fn.crop_mirror_normalize(
            view, mean=scaled_mean, std=scaled_std, dtype=types.DALIDataType.FLOAT, output_layout="CHW", **settings
        )
    planes = {
        (m, s): fn.crop_mirror_normalize(
            view, mean=[m], std=[s], dtype=types.DALIDataType.FLOAT, output_layout="CHW", **settings
        )
        for m, s in dict.fromkeys(zip(scaled_mean, scaled_std))
    }
    return fn.cat(*(planes[pair] for pair in zip(scaled_mean, scaled_std)), axis=0)


def _evaluation_graph(
    images: ImageSet, resize: int, crop: int, mean: tuple[float, float, float], std: tuple[float, float, float],
    interpolation: str, feed: Callable[[], tuple[Any, ...]], device: torch.device,
) -> tuple[Any, ...]:  # fmt: skip
    layout = "" if images.paths is not None else "HWC"
    (source,) = fn.external_source(source=feed, num_outputs=1, batch=True, layout=[layout])
    decoded = _decode(images, source, device)
    if not bool((images.sizes_HW == resize).all()):
        decoded = fn.resize(
            decoded, resize_shorter=resize, antialias=True, interp_type=INTERPOLATION[interpolation]
        )
    return (_normalise(decoded, mean, std, _channels(images), crop=[crop, crop]),)


def _to_torch(output: Any) -> Tensor:
    """A batch of equal shapes, sharing DALI's memory: valid until the next run, so callers copy."""
    return torch.from_dlpack(output.as_tensor())


def _undecodable(images: ImageSet, ids: NDArray[np.int64], error: RuntimeError) -> Exception:
    """Names the files that broke the batch; DALI names none."""
    if images.paths is None:
        return error
    broken = []
    for path in (images.paths[i] for i in dict.fromkeys(ids.tolist())):
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as reason:
            broken.append(f"{path} ({reason})")
    if not broken:
        return error
    return ValueError(
        f"{'; '.join(broken[:5])}: the image cannot be decoded; remove or mend the file, then run the same command again"
    )
