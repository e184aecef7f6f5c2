"""The random numbers and masks of all views: counter-based, so that ranks, threads and restarts change nothing.

The order of an epoch's images is one permutation from (seed, epoch). The numbers for the image at position p of an
epoch come from Philox generators keyed by (seed, epoch, purpose), at a counter that depends on p alone. So the whole
state of a loader is the number of batches that were consumed.

Letters: B images of a batch, V views, U uniform numbers per image and view.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from issl_engine.random_streams import Purpose, stream_key, uniforms
from issl_engine.views.augmentations.base import SHARED_COLUMNS, Arrays, Uniforms, ViewBatch
from issl_engine.views.config import ViewsConfig
from issl_engine.views.masks import draw_mask
from issl_engine.views.noise_field import NoiseField


class ViewStreams:
    """What is drawn for each view, batch after batch. ``transforms``: those of each view, in its order."""

    def __init__(self, views: ViewsConfig, *, seed: int, channels: int) -> None:
        self.transforms = [views.transforms_of(group) for group in views.group_of_view]
        self._sizes = [group.size for group in views.group_of_view]
        self._seed, self._channels = seed, channels
        self._noise_field = functools.cache(lambda: NoiseField(seed, views.largest_size))
        self._widths: dict[int, int] = {Purpose.VIEWS: SHARED_COLUMNS}
        """Purpose → U, what the view that takes most takes."""
        for columns in (columns for view in self.transforms for transform in view for columns in transform.columns):
            self._widths[columns.purpose] = max(columns.end, self._widths.get(columns.purpose, 0))

    def batches(self, sizes_HW: NDArray[np.int32], *, epoch: int, first_position: int) -> list[ViewBatch]:
        """One for each view, of the images from ``first_position`` on in the epoch's order.

        ``sizes_HW`` [B, 2] are those images' heights and widths in pixels. Raises Mistake for a seed out of range.
        """
        num_images, num_views = len(sizes_HW), len(self.transforms)

        def stream(purpose: int, width: int) -> Uniforms:
            drawn = uniforms(
                num_images, num_views * width,
                seed=self._seed, epoch=epoch, first_position=first_position, purpose=purpose,
            )  # fmt: skip
            return drawn.reshape(num_images, num_views, width)

        streams_BVU = {purpose: stream(purpose, width) for purpose, width in self._widths.items()}
        return [
            ViewBatch(
                sizes_HW=sizes_HW,
                size=size,
                channels=self._channels,
                streams={purpose: numbers_BVU[:, view] for purpose, numbers_BVU in streams_BVU.items()},
                noise_field=self._noise_field,
            )
            for view, size in enumerate(self._sizes)
        ]

    def arrays(self, sizes_HW: NDArray[np.int32], *, epoch: int, first_position: int) -> list[list[Arrays]]:
        """The named arrays of every transform of every view."""
        batches = self.batches(sizes_HW, epoch=epoch, first_position=first_position)
        return [
            [transform.arrays(batch) for transform in transforms]
            for transforms, batch in zip(self.transforms, batches, strict=True)
        ]


def draw_masks(
    views: ViewsConfig, num_images: int, *, seed: int, epoch: int, first_position: int
) -> tuple[Tensor | None, ...]:
    """A bool tensor [count, B, P, P] per crop group, true where masked, or None where the group has no masks."""
    key, masks, first_view = stream_key(seed, epoch, Purpose.MASKS), [], 0
    for group in views.groups:
        drawn = None
        if group.mask is not None:
            side = group.size // group.mask.patch_size
            drawn = torch.empty((group.count, num_images, side, side), dtype=torch.bool)
            for view in range(group.count):
                for row in range(num_images):
                    # The upper words of the counter name the image and view; the lower ones count its numbers.
                    counter = [0, 0, first_view + view, first_position + row]
                    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
                    drawn[view, row] = torch.from_numpy(draw_mask(group.mask, side, generator))
        masks.append(drawn)
        first_view += group.count
    return tuple(masks)
