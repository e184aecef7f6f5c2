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
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from issl_engine.loading.augmentations.base import ViewGraph, apply_transform
from issl_engine.loading.augmentations.user import check_user_operators
from issl_engine.loading.batch_buffers import BatchBuffers
from issl_engine.loading.expected_size import check_sizes, expected_sizes, of_expected_size
from issl_engine.loading.images import ImageInputs, num_channels, undecodable
from issl_engine.loading.memory import preallocate
from issl_engine.loading.pipeline import build_pipeline, copy_batch, named_inputs, run_pipeline, to_torch
from issl_engine.mistakes import Mistake
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.base import Arrays
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.batch_order import BatchOrder
from issl_engine.views.config import ViewsConfig
from issl_engine.views.streams import ViewStreams, draw_masks

Inputs = dict[str | tuple[int, int, str], Any]
"""All that the graph is fed for a batch, by name; an augmentation's array by (view, its place in the order, name)."""


def check_views_fit(images: ImageSet, views: ViewsConfig) -> None:
    """Raises Mistake when a crop group's size exceeds every image: crops would be enlarged throughout."""
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

    Raises Mistake when a batch is larger than the data, for a seed out of range, for an operator of the user that
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
        self._streams = ViewStreams(views, seed=seed, channels=num_channels(images))
        self._next_to_feed = start_batch
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._prepared = self._preparing.submit(self._prepare, self._order.ids(start_batch), start_batch)
        preallocate(images, views, batch_size, prefetch_batches, device)
        layout = "HWC" if channels_last else "CHW"
        self._pipeline: Pipeline | None = build_pipeline(
            lambda: _training_graph(self._inputs, views, self._streams, self._feed, device, layout),
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

    def _feed(self) -> Inputs:
        """The inputs of the next batch; DALI asks for some batches ahead of the one it returns."""
        self._in_flight.append(self._order.ids(self._next_to_feed))
        inputs = self._prepared.result()
        self._next_to_feed += 1
        following = self._next_to_feed
        self._prepared = self._preparing.submit(self._prepare, self._order.ids(following), following)
        return inputs

    def _prepare(self, ids: NDArray[np.int64], batch: int) -> Inputs:
        epoch, first = self._order.place(batch)
        drawn = self._streams.arrays(self.images.sizes_HW[ids], epoch=epoch, first_position=first)
        inputs: Inputs = {"images": self._inputs.batch(ids), "expected_sizes": expected_sizes(self.images, ids)}
        return inputs | _needed(drawn)


def _needed(drawn: list[list[Arrays]]) -> Inputs:
    """The arrays that are not None."""
    return {
        (view, place, name): array
        for view, transforms in enumerate(drawn)
        for place, arrays in enumerate(transforms)
        for name, array in arrays.items()
        if array is not None
    }


def _training_graph(
    images: ImageInputs, views: ViewsConfig, streams: ViewStreams, feed: Callable[[], Inputs], device: torch.device,
    layout: str,
) -> tuple[Any, ...]:  # fmt: skip
    # Which arrays there are is read off those of one image.
    drawn = streams.arrays(images.images.sizes_HW[:1], epoch=0, first_position=0)
    layouts = {"images": images.layout, "expected_sizes": ""} | dict.fromkeys(_needed(drawn), "")
    nodes = named_inputs(feed, layouts)
    decoded, shapes = of_expected_size(images.decode(nodes["images"], device), nodes["expected_sizes"])
    crops = []
    for view, (group, transforms) in enumerate(zip(views.group_of_view, streams.transforms, strict=True)):
        mean, std = views.normalisation_of(group)
        graph = ViewGraph(
            channels=num_channels(images.images), on_gpu=device.type == "cuda", mean=mean, std=std, layout=layout
        )
        crop = decoded
        for place, transform in enumerate(transforms):
            arrays = {name: nodes.get((view, place, name)) for name in drawn[view][place]}
            if any(array is not None for array in arrays.values()):
                crop = apply_transform(transform, crop, graph, **arrays)
        crops.append(crop)
    return *crops, shapes
