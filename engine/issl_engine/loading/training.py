"""Crops of the training split, batch after batch, without end.

Letters: B images of a batch.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from issl_engine.loading.batch_buffers import BatchBuffers
from issl_engine.loading.expected_size import check_sizes, expected_sizes, of_expected_size
from issl_engine.loading.images import ImageInputs, num_channels, undecodable
from issl_engine.loading.memory import preallocate
from issl_engine.loading.pipeline import build_pipeline, copy_batch, run_pipeline, to_torch
from issl_engine.loading.user_operators import check_user_operators
from issl_engine.loading.view import augmented_view
from issl_engine.mistakes import Mistake
from issl_engine.sources.base import ImageSet
from issl_engine.views.batch_order import BatchOrder
from issl_engine.views.config import Augmentation, MultiCropBatch, ViewsConfig
from issl_engine.views.draws import draw_views
from issl_engine.views.further_arguments import further_arguments, num_further_arguments
from issl_engine.views.further_draws import draw_further
from issl_engine.views.noise_field import NoiseField
from issl_engine.views.operator_arguments import num_operator_arguments, operator_arguments
from issl_engine.views.patch_masks import draw_masks


def check_views_fit(images: ImageSet, views: ViewsConfig) -> None:
    """Raises ValueError when a crop group's size exceeds every image: crops would be enlarged throughout."""
    largest = int(images.sizes_HW.min(axis=1).max())
    for index, group in enumerate(views.groups):
        if group.size > largest:
            raise Mistake(
                f"views.groups.{index}.size: crops of {group.size} px are larger than the images (at most "
                f"{largest} px on their shorter side); make the crops {largest} px or smaller"
            )


class TrainingViews:
    """An endless iterator of MultiCropBatch over epochs, for one rank.

    BatchOrder says which images are in which batch; those of an incomplete last step, of ``accumulation_steps``
    batches, wait for another epoch. ``start_batch`` batches are passed over without being made. Crops are of ``dtype``,
    float32 or bfloat16; with ``channels_last`` the memory of each image is [size, size, 3]. With ``cache_bytes`` so
    many bytes of encoded images stay in memory. While a batch is made, the draws of the next and the bytes that it
    needs are prepared by a thread.

    Raises ValueError when a batch is larger than the data, for a seed out of range, for an operator of the user that
    does not fit, and for an image that cannot be decoded, which also closes the loader.
    """

    def __init__(
        self, images: ImageSet, views: ViewsConfig, *, batch_size: int, rank: int, world_size: int, seed: int,
        device: torch.device, num_threads: int, prefetch_batches: int = 2, start_batch: int = 0,
        dtype: torch.dtype = torch.float32, channels_last: bool = False, cache_bytes: int = 0,
        accumulation_steps: int = 1,
    ) -> None:  # fmt: skip
        self._order = BatchOrder(
            len(images), batch_size=batch_size, rank=rank, world_size=world_size, seed=seed,
            accumulation_steps=accumulation_steps,
        )  # fmt: skip
        self.batches_per_epoch = self._order.batches_per_epoch
        if self.batches_per_epoch == 0:
            raise Mistake(
                f"the batch of {batch_size * world_size * accumulation_steps} images is larger than the {len(images)} "
                "images of the training split; lower training.global_batch_size"
            )
        check_user_operators(views, num_channels(images), device)
        self.images, self.views = images, views
        self.batch_size, self.seed = batch_size, seed
        self.device, self.dtype, self.channels_last = device, dtype, channels_last
        self.batches_consumed = start_batch
        self._inputs = ImageInputs(images, cache_bytes)
        self._buffers = BatchBuffers()
        self._in_flight: deque[NDArray[np.int64]] = deque()
        self._noise_field = NoiseField(seed, views.largest_size) if _has_noise(views) else None
        self._next_to_feed = start_batch
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._prepared = self._preparing.submit(self._prepare, self._order.ids(start_batch), start_batch)
        preallocate(images, views, batch_size, prefetch_batches, device)
        layout = "HWC" if channels_last else "CHW"
        self._pipeline: Pipeline | None = build_pipeline(
            lambda: _training_graph(self._inputs, views, self._feed, device, layout),
            batch_size=batch_size, num_threads=num_threads, device=device, prefetch=prefetch_batches,
        )  # fmt: skip

    def __iter__(self) -> "TrainingViews":
        return self

    def __next__(self) -> MultiCropBatch:
        assert self._pipeline is not None, "the loader is closed"
        try:
            *outputs, shapes = run_pipeline(self._pipeline, self.device)
            check_sizes(self.images, self._in_flight[0], shapes)
        except (RuntimeError, OSError) as error:
            self.close()  # DALI would go on with the next batch, and its crops would get this one's ids
            # The batches made ahead are looked at, too: all that is broken there comes in one message.
            raise undecodable(self.images, list(self._in_flight), error) from None
        ids = self._in_flight.popleft()
        epoch, first = self._order.place(self.batches_consumed)
        masks = draw_masks(self.views, len(ids), seed=self.seed, epoch=epoch, first_position=first)
        crops, first = [], 0
        for group in self.views.groups:
            crops.append(self._group(outputs[first : first + group.count], group.size))
            first += group.count
        self.batches_consumed += 1
        return MultiCropBatch(
            crops=tuple(crops), ids=torch.from_numpy(ids), labels=torch.from_numpy(self.images.labels[ids]), masks=masks
        )

    def close(self) -> None:
        """Frees DALI's threads and buffers; safe to call twice."""
        self._pipeline = None
        self._preparing.shutdown(cancel_futures=True)

    def _group(self, outputs: list[Any], size: int) -> Tensor:
        """The crops of one group [count, B, 3, size, size], copied out of DALI's memory."""
        image = (size, size, 3) if self.channels_last else (3, size, size)
        shape = (len(outputs), self.batch_size, *image)
        crops = self._buffers.take(shape, self.dtype, self.device)
        for crop, output in zip(crops, outputs, strict=True):
            copy_batch(to_torch(output), crop)
        return crops.movedim(-1, 2) if self.channels_last else crops

    def _feed(self) -> tuple[Any, ...]:
        """The inputs of the next batch; DALI asks for some batches ahead of the one it returns."""
        self._in_flight.append(self._order.ids(self._next_to_feed))
        arguments = self._prepared.result()
        self._next_to_feed += 1
        following = self._next_to_feed
        self._prepared = self._preparing.submit(self._prepare, self._order.ids(following), following)
        return arguments

    def _prepare(self, ids: NDArray[np.int64], batch: int) -> tuple[Any, ...]:
        """All that the graph is fed for a batch."""
        epoch, first = self._order.place(batch)
        draws = draw_views(self.views, self.images.sizes_HW[ids], seed=self.seed, epoch=epoch, first_position=first)
        further = draw_further(self.views, len(ids), seed=self.seed, epoch=epoch, first_position=first)
        arguments: list[Any] = [self._inputs.batch(ids), expected_sizes(self.images, ids)]
        channels = num_channels(self.images)
        for draw, augmentation in zip(draws, _augmentations(self.views), strict=True):
            arguments += operator_arguments(draw, augmentation, channels)
        for more, group in zip(further, self.views.group_of_view, strict=True):
            augmentation = self.views.augmentation_of(group)
            arguments += further_arguments(more, augmentation, self._noise_field, group.size, channels)
        return tuple(arguments)


def _has_noise(views: ViewsConfig) -> bool:
    return any(augmentation.gaussian_noise is not None for augmentation in _augmentations(views))


def _augmentations(views: ViewsConfig) -> list[Augmentation]:
    return [views.augmentation_of(group) for group in views.group_of_view]


def _training_graph(
    images: ImageInputs, views: ViewsConfig, feed: Callable[[], tuple[Any, ...]], device: torch.device, layout: str
) -> tuple[Any, ...]:
    channels, augmentations = num_channels(images.images), _augmentations(views)
    num_arguments = sum(num_operator_arguments(augmentation, channels) for augmentation in augmentations)
    num_further = sum(num_further_arguments(augmentation, channels) for augmentation in augmentations)
    layouts = [images.layout, ""] + [""] * (num_arguments + num_further)
    fed = fn.external_source(source=feed, num_outputs=len(layouts), batch=True, layout=layouts)
    inputs, further_inputs = iter(fed[: 2 + num_arguments]), iter(fed[2 + num_arguments :])
    decoded, shapes = of_expected_size(images.decode(next(inputs), device), next(inputs))
    crops = [
        augmented_view(decoded, inputs, further_inputs, group, views, channels, layout, device.type == "cuda")
        for group in views.group_of_view
    ]
    return *crops, shapes
