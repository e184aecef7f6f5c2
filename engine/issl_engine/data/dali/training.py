"""Crops of the training split, batch after batch, without end.

Letters: B images of a batch.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline

from issl_engine.data.dali.expected_size import check_sizes, expected_sizes, of_expected_size
from issl_engine.data.dali.images import decode, image_inputs, layout, num_channels, undecodable
from issl_engine.data.dali.pipeline import build_pipeline, run_pipeline, to_torch
from issl_engine.data.dali.user_operators import check_user_operators
from issl_engine.data.dali.view import augmented_view
from issl_engine.data.draws import draw_views, epoch_order
from issl_engine.data.further_arguments import further_arguments, num_further_arguments
from issl_engine.data.further_draws import draw_further
from issl_engine.data.noise_field import NoiseField
from issl_engine.data.operator_arguments import num_operator_arguments, operator_arguments
from issl_engine.data.patch_masks import draw_masks
from issl_engine.data.sources.base import ImageSet
from issl_engine.data.views import Augmentation, MultiCropBatch, ViewsConfig


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
    larger than the data, for a seed out of range, for an operator of the user that does not fit, and for an image
    that cannot be decoded, which also closes the loader.
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
        check_user_operators(views, num_channels(images), device)
        self.images, self.views = images, views
        self.batch_size, self.rank, self.world_size, self.seed = batch_size, rank, world_size, seed
        self.device = device
        self.batches_consumed = start_batch
        self._next_to_feed = start_batch
        self._in_flight: deque[NDArray[np.int64]] = deque()
        self._epoch = -1
        self._noise_field = NoiseField(seed, views.largest_size) if _has_noise(views) else None
        self._order = np.empty(0, dtype=np.int64)
        self._pipeline: Pipeline | None = build_pipeline(
            lambda: _training_graph(images, views, self._feed, device),
            batch_size=batch_size, num_threads=num_threads, device=device, prefetch=prefetch_batches,
        )  # fmt: skip

    def __iter__(self) -> "TrainingViews":
        return self

    def __next__(self) -> MultiCropBatch:
        assert self._pipeline is not None, "the loader is closed"
        try:
            *outputs, shapes = run_pipeline(self._pipeline, self.device)
            check_sizes(self.images, self._in_flight[0], shapes)
        except RuntimeError as error:
            self.close()  # DALI would go on with the next batch, and its crops would get this one's ids
            # The batches made ahead are looked at, too: all that is broken there comes in one message.
            raise undecodable(self.images, list(self._in_flight), error) from None
        ids = self._in_flight.popleft()
        epoch, first = self._place(self.batches_consumed)
        masks = draw_masks(self.views, len(ids), seed=self.seed, epoch=epoch, first_position=first)
        crops, first = [], 0
        for group in self.views.groups:
            crops.append(torch.stack([to_torch(output) for output in outputs[first : first + group.count]]))
            first += group.count
        self.batches_consumed += 1
        return MultiCropBatch(
            crops=tuple(crops), ids=torch.from_numpy(ids), labels=torch.from_numpy(self.images.labels[ids]), masks=masks
        )

    def close(self) -> None:
        """Frees DALI's threads and buffers; safe to call twice."""
        self._pipeline = None

    def _place(self, batch: int) -> tuple[int, int]:
        """Epoch of a batch of this rank, and the position of its first image there."""
        epoch, within = divmod(batch, self.batches_per_epoch)
        return epoch, (within * self.world_size + self.rank) * self.batch_size

    def _feed(self) -> tuple[Any, ...]:
        """The inputs of the next batch; DALI asks for some batches ahead of the one it returns."""
        epoch, first = self._place(self._next_to_feed)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(len(self.images), self.seed, epoch)
        ids = self._order[first : first + self.batch_size]
        draws = draw_views(self.views, self.images.sizes_HW[ids], seed=self.seed, epoch=epoch, first_position=first)
        further = draw_further(self.views, len(ids), seed=self.seed, epoch=epoch, first_position=first)
        arguments: list[Any] = [image_inputs(self.images, ids), expected_sizes(self.images, ids)]
        channels = num_channels(self.images)
        for draw, augmentation in zip(draws, _augmentations(self.views), strict=True):
            arguments += operator_arguments(draw, augmentation, channels)
        for more, group in zip(further, self.views.group_of_view, strict=True):
            augmentation = self.views.augmentation_of(group)
            arguments += further_arguments(more, augmentation, self._noise_field, group.size, channels)
        self._in_flight.append(ids)
        self._next_to_feed += 1
        return tuple(arguments)


def _has_noise(views: ViewsConfig) -> bool:
    return any(augmentation.gaussian_noise is not None for augmentation in _augmentations(views))


def _augmentations(views: ViewsConfig) -> list[Augmentation]:
    return [views.augmentation_of(group) for group in views.group_of_view]


def _training_graph(
    images: ImageSet, views: ViewsConfig, feed: Callable[[], tuple[Any, ...]], device: torch.device
) -> tuple[Any, ...]:
    channels, augmentations = num_channels(images), _augmentations(views)
    num_arguments = sum(num_operator_arguments(augmentation, channels) for augmentation in augmentations)
    num_further = sum(num_further_arguments(augmentation, channels) for augmentation in augmentations)
    layouts = [layout(images), ""] + [""] * (num_arguments + num_further)
    fed = fn.external_source(source=feed, num_outputs=len(layouts), batch=True, layout=layouts)
    inputs, further_inputs = iter(fed[: 2 + num_arguments]), iter(fed[2 + num_arguments :])
    decoded, shapes = of_expected_size(decode(images, next(inputs), device), next(inputs))
    crops = [
        augmented_view(decoded, inputs, further_inputs, group, views, channels, device.type == "cuda")
        for group in views.group_of_view
    ]
    return *crops, shapes
