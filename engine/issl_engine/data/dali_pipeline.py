"""DALI executes the augmentations that ``draws`` decided: decode once, cut every view, normalise.

The only DALI import. Every random number comes from ``draws``, so the state of a loader is its count of
batches.

Where DALI differs from torchvision:
- Colour jitter: the order is always hue, saturation, contrast, brightness (torchvision shuffles them),
  contrast is about mid-grey (128) and not about the image's mean, and hue turns in YIQ space and not in HSV.
- A crop is resized with the pixels around its window within the filter's reach; torchvision cuts first.
  Inside they agree to one grey level, at the crop's edges they differ. Both antialias.
- Blur reaches three standard deviations to each side, at any crop size, and mirrors the edge.
Grey weighs the channels 0.299, 0.587, 0.114, as torchvision does.

Letters: B images of a batch, H height, W width, C channels.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image
from torch import Tensor

from issl_engine.data.draws import Floats, draw_views, epoch_order
from issl_engine.data.operator_arguments import (
    blurs,
    changes_colour,
    num_operator_arguments,
    operator_arguments,
    solarises,
)
from issl_engine.data.sources.base import ImageSet
from issl_engine.data.views import Augmentation, MultiCropBatch, ViewsConfig

INTERPOLATION = {"bilinear": types.DALIInterpType.INTERP_LINEAR, "bicubic": types.DALIInterpType.INTERP_CUBIC}
MID_GREY = 128.0
PREFETCHED = 2
"""Batches of evaluation that DALI makes ahead."""


def check_views_fit(images: ImageSet, views: ViewsConfig) -> None:
    """Raises ValueError when a crop group's size exceeds every image: crops would be enlarged throughout."""
    largest = int(images.sizes_HW.min(axis=1).max())
    for index, group in enumerate(views.groups):
        if group.size > largest:
            raise ValueError(
                f"views.groups.{index}.size: crops of {group.size} px are larger than the images (at most "
                f"{largest} px on their shorter side); make the crops {largest} px or smaller"
            )


class TrainingViews:
    """An endless iterator of MultiCropBatch over epochs, for one rank.

    With R ranks, global batch b of an epoch holds the positions [b·B·R, (b+1)·B·R) of the epoch's
    permutation, and this rank its own slice of B; the images of the incomplete last batch wait for another
    epoch. ``start_batch`` batches are passed over without being made. Raises ValueError when a batch is
    larger than the data, for a seed out of range, and for an image that cannot be decoded, which also closes
    the loader.
    """

    def __init__(
        self, images: ImageSet, views: ViewsConfig, *, batch_size: int, rank: int, world_size: int, seed: int,
        device: torch.device, num_threads: int, prefetch_batches: int = 2, start_batch: int = 0,
    ) -> None:  # fmt: skip
        self.batches_per_epoch = len(images) // (batch_size * world_size)
        if self.batches_per_epoch == 0:
            raise ValueError(
                f"the batch of {batch_size * world_size} images is larger than the {len(images)} images of "
                "the training split; lower training.global_batch_size"
            )
        self.images, self.views = images, views
        self.batch_size, self.rank, self.world_size, self.seed = batch_size, rank, world_size, seed
        self.device = device
        self.batches_consumed = start_batch
        self._next_to_feed = start_batch
        self._in_flight: deque[NDArray[np.int64]] = deque()
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        self._pipeline: Pipeline | None = _build(
            lambda: _training_graph(images, views, self._feed, device),
            batch_size=batch_size, num_threads=num_threads, device=device, prefetch=prefetch_batches,
        )  # fmt: skip

    def __iter__(self) -> "TrainingViews":
        return self

    def __next__(self) -> MultiCropBatch:
        assert self._pipeline is not None, "the loader is closed"
        try:
            outputs = _run(self._pipeline, self.device)
        except RuntimeError as error:
            self.close()  # DALI would go on with the next batch, and its crops would get this one's ids
            # The batches made ahead are looked at, too: all that is broken there comes in one message.
            raise _undecodable(self.images, list(self._in_flight), error) from None
        ids = self._in_flight.popleft()
        crops, first = [], 0
        for group in self.views.groups:
            crops.append(torch.stack([_to_torch(output) for output in outputs[first : first + group.count]]))
            first += group.count
        self.batches_consumed += 1
        return MultiCropBatch(
            crops=tuple(crops), ids=torch.from_numpy(ids), labels=torch.from_numpy(self.images.labels[ids])
        )

    def close(self) -> None:
        """Frees DALI's threads and buffers; safe to call twice."""
        self._pipeline = None

    def _feed(self) -> tuple[Any, ...]:
        """The inputs of the next batch; DALI asks for some batches ahead of the one it returns."""
        epoch, within = divmod(self._next_to_feed, self.batches_per_epoch)
        first = (within * self.world_size + self.rank) * self.batch_size
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(len(self.images), self.seed, epoch)
        ids = self._order[first : first + self.batch_size]
        draws = draw_views(self.views, self.images.sizes_HW[ids], seed=self.seed, epoch=epoch, first_position=first)
        arguments: list[Any] = [_image_inputs(self.images, ids)]
        for draw, augmentation in zip(draws, _augmentations(self.views), strict=True):
            arguments += operator_arguments(draw, augmentation, _channels(self.images))
        self._in_flight.append(ids)
        self._next_to_feed += 1
        return tuple(arguments)


class EvaluationImages:
    """All images once, in order: (float [b, 3, crop, crop] normalised, int64 labels [b]).

    The shorter side is resized to ``resize`` (antialiased), then the centre is cut out; sides and centre are
    rounded as torchvision's Resize and CenterCrop do. The last batch may be short. Each iteration is a fresh
    pass. Raises ValueError when ``crop`` is larger than ``resize``, and for an image that cannot be decoded.
    """

    def __init__(
        self, images: ImageSet, *, resize: int, crop: int, mean: tuple[float, float, float],
        std: tuple[float, float, float], batch_size: int, device: torch.device, num_threads: int,
        interpolation: str,
    ) -> None:  # fmt: skip
        if crop > resize:
            raise ValueError(
                f"evaluation.crop: {crop} px is larger than evaluation.resize ({resize} px); make it smaller or equal"
            )
        self.images, self.batch_size, self.device = images, min(batch_size, len(images)), device
        self.num_threads = num_threads
        self._resizes = bool((images.sizes_HW != resize).any())
        self._sides_HW, self._tops, self._lefts = _centre(images.sizes_HW, resize, crop)
        self._graph = lambda feed: _evaluation_graph(
            images, self._resizes, crop, mean, std, interpolation, feed, device
        )

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ids = np.arange(len(self.images), dtype=np.int64)
        # Every DALI batch is full: the last one is filled up with the last image, and cut again below.
        padded = np.pad(ids, (0, len(self) * self.batch_size - len(ids)), mode="edge").reshape(len(self), -1)
        rows = iter(padded)

        def feed() -> tuple[Any, ...]:
            chosen = next(rows, padded[-1])
            places = _image_inputs(self.images, chosen), self._tops[chosen], self._lefts[chosen]
            return (*places, self._sides_HW[chosen]) if self._resizes else places

        pipeline = _build(
            lambda: self._graph(feed),
            batch_size=self.batch_size, num_threads=self.num_threads, device=self.device,
            prefetch=PREFETCHED,
        )  # fmt: skip
        for index, batch in enumerate(padded):
            try:
                (output,) = _run(pipeline, self.device)
            except RuntimeError as error:
                raise _undecodable(self.images, list(padded[index : index + PREFETCHED + 1]), error) from None
            kept = min(self.batch_size, len(ids) - index * self.batch_size)
            yield _to_torch(output)[:kept].clone(), torch.from_numpy(self.images.labels[batch[:kept]])


def _centre(sizes_HW: NDArray[np.int32], resize: int, crop: int) -> tuple[Floats, Floats, Floats]:
    """Sides after resizing [n, 2]; top and left of the centre crop [n], as shares of the room that there is."""
    sides = resize * sizes_HW.astype(np.int64) // sizes_HW.min(axis=1, keepdims=True)
    room = (sides - crop).T
    top, left = (np.rint(room / 2) / np.maximum(room, 1)).astype(np.float32)
    return sides.astype(np.float32), top, left


def _build(
    graph: Callable[[], tuple[Any, ...]],
    *,
    batch_size: int,
    num_threads: int,
    device: torch.device,
    prefetch: int,
) -> Pipeline:
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=num_threads,
        device_id=_gpu(device),
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,  # its outputs stay valid for as long as a tensor refers to them
    )
    with pipeline:
        pipeline.set_outputs(*graph())
    pipeline.build()
    return pipeline


def _gpu(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return device.index if device.index is not None else torch.cuda.current_device()


def _run(pipeline: Pipeline, device: torch.device) -> Any:
    """One batch. On a GPU it is ordered into torch's stream, so that DALI waits for torch's copies."""
    if device.type == "cuda":
        return pipeline.run(cuda_stream=torch.cuda.current_stream(device))
    return pipeline.run()


def _augmentations(views: ViewsConfig) -> list[Augmentation]:
    return [group.augmentation or views.augmentation for group in views.groups for _ in range(group.count)]


def _image_inputs(images: ImageSet, ids: NDArray[np.int64]) -> Any:
    """File names as bytes, or pixels, of the batch."""
    if images.paths is not None:
        return [np.frombuffer(images.paths[i].encode(), dtype=np.uint8) for i in ids]
    assert images.pixels is not None
    return np.ascontiguousarray(images.pixels[ids])


def _channels(images: ImageSet) -> int:
    return 3 if images.pixels is None else images.pixels.shape[-1]


def _layout(images: ImageSet) -> str:
    """Of what is fed: names of files have none."""
    return "" if images.paths is not None else "HWC"


def _read(paths: Any) -> Any:
    """The bytes of files. DALI's stubs do not know fn.io."""
    return fn.io.file.read(paths)  # type: ignore[attr-defined]


def _decode(images: ImageSet, source: Any, device: torch.device) -> Any:
    """Pixels [H, W, C] on the device. EXIF orientation is applied, as it is in the image set's sizes."""
    on_gpu = device.type == "cuda"
    if images.paths is None:
        return source.gpu() if on_gpu else source
    return fn.decoders.image(
        _read(source), device="mixed" if on_gpu else "cpu", output_type=types.DALIImageType.RGB,
        adjust_orientation=True,
    )  # fmt: skip


def _training_graph(
    images: ImageSet, views: ViewsConfig, feed: Callable[[], tuple[Any, ...]], device: torch.device
) -> tuple[Any, ...]:
    channels, augmentations = _channels(images), _augmentations(views)
    num_arguments = sum(num_operator_arguments(augmentation, channels) for augmentation in augmentations)
    layouts = [_layout(images)] + [""] * num_arguments
    inputs: Iterator[Any] = iter(fn.external_source(source=feed, num_outputs=len(layouts), batch=True, layout=layouts))
    decoded = _decode(images, next(inputs), device)
    sizes = [group.size for group in views.groups for _ in range(group.count)]
    return tuple(
        _view(decoded, inputs, size, augmentation, views, channels)
        for size, augmentation in zip(sizes, augmentations, strict=True)
    )


def _view(
    decoded: Any,
    inputs: Iterator[Any],
    size: int,
    augmentation: Augmentation,
    views: ViewsConfig,
    channels: int,
) -> Any:
    """One view [3, size, size], float, normalised. Takes its arguments off ``inputs``."""
    start, end, flip = next(inputs), next(inputs), next(inputs)
    view: Any = fn.resize(
        decoded, roi_start=start, roi_end=end, size=[size, size], antialias=True,
        interp_type=INTERPOLATION[views.interpolation],
    )  # fmt: skip
    if changes_colour(augmentation, channels):
        factors = {"contrast": next(inputs), "brightness": next(inputs)}
        if channels == 3:
            view = fn.color_twist(view, hue=next(inputs), saturation=next(inputs), **factors)
        else:
            view = fn.brightness_contrast(view, contrast_center=MID_GREY, **factors)
    if blurs(augmentation):
        view = fn.gaussian_blur(view, sigma=next(inputs), window_size=next(inputs))
    if solarises(augmentation):
        # 255 - x is x with all bits turned, which costs a third of choosing between the two.
        view = view ^ ((view >= next(inputs)) * types.Constant(255, dtype=types.DALIDataType.UINT8))
    return _normalise(view, views.mean, views.std, channels, mirror=flip)


def _normalise(
    view: Any,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channels: int,
    **settings: Any,
) -> Any:
    scaled_mean, scaled_std = [255 * m for m in mean], [255 * s for s in std]
    if channels == 3:
        return fn.crop_mirror_normalize(
            view,
            mean=scaled_mean,
            std=scaled_std,
            dtype=types.DALIDataType.FLOAT,
            output_layout="CHW",
            **settings,
        )
    planes = {
        (m, s): fn.crop_mirror_normalize(
            view, mean=[m], std=[s], dtype=types.DALIDataType.FLOAT, output_layout="CHW", **settings
        )
        for m, s in dict.fromkeys(zip(scaled_mean, scaled_std))
    }
    return fn.cat(*(planes[pair] for pair in zip(scaled_mean, scaled_std)), axis=0)


def _evaluation_graph(
    images: ImageSet, resizes: bool, crop: int, mean: tuple[float, float, float], std: tuple[float, float, float],
    interpolation: str, feed: Callable[[], tuple[Any, ...]], device: torch.device,
) -> tuple[Any, ...]:  # fmt: skip
    layouts = [_layout(images), "", ""] + [""] * resizes
    source, top, left, *sides = fn.external_source(source=feed, num_outputs=len(layouts), batch=True, layout=layouts)
    view = _decode(images, source, device)
    if resizes:
        view = fn.resize(view, size=sides[0], antialias=True, interp_type=INTERPOLATION[interpolation])
    return (_normalise(view, mean, std, _channels(images), crop=[crop, crop], crop_pos_y=top, crop_pos_x=left),)


def _to_torch(output: Any) -> Tensor:
    """A batch of equal shapes, sharing DALI's memory, which DALI may write again later: callers copy."""
    return torch.from_dlpack(output.as_tensor())


def _undecodable(images: ImageSet, batches: list[NDArray[np.int64]], error: RuntimeError) -> Exception:
    """Names the files that broke one of these batches, since DALI names none; else ``error`` itself."""
    if images.paths is None:
        return error
    paths = [images.paths[i] for i in dict.fromkeys(i for batch in batches for i in batch.tolist())]
    broken = [f"{path} ({reason})" for path in paths if (reason := _refused_by_pillow(path))]
    if not broken:
        broken = [f"{path} (DALI cannot read this kind of image)" for path in paths if _refused_by_dali(path)]
    if not broken:
        return error
    return ValueError(
        f"{'; '.join(broken[:5])}: the image cannot be decoded; remove or mend the file, then run the same "
        "command again"
    )


def _refused_by_pillow(path: str) -> str | None:
    """Why, or None."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        return "the file is gone"
    except (OSError, SyntaxError, ValueError) as reason:
        return str(reason).replace(f" file {path!r}", "")
    return None


def _refused_by_dali(path: str) -> bool:
    name = [np.frombuffer(path.encode(), dtype=np.uint8)]
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = _read(fn.external_source(source=lambda: name, batch=True))
        pipeline.set_outputs(fn.decoders.image(encoded, output_type=types.DALIImageType.RGB))
    try:
        pipeline.run()
    except RuntimeError:
        return True
    return False
