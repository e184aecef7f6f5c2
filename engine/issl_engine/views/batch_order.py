"""Which images are in which batch: slices of one permutation per epoch, the same for any number of ranks."""

import numpy as np
from numpy.typing import NDArray

from issl_engine.random_streams import epoch_order


class BatchOrder:
    """The batches of one rank, counted from the run's first.

    With R ranks, global batch b of an epoch holds the positions [b·B·R, (b+1)·B·R) of the epoch's permutation, and
    this rank its own slice of B. An incomplete last step of ``accumulation_steps`` batches is left out, so that the
    steps of an epoch hold the same images in however many passes. Raises Mistake for a seed out of range when
    images are asked for.
    """

    def __init__(
        self, num_images: int, *, batch_size: int, rank: int, world_size: int, seed: int,
        accumulation_steps: int = 1,
    ) -> None:  # fmt: skip
        steps_per_epoch = num_images // (batch_size * world_size * accumulation_steps)
        self.batches_per_epoch = steps_per_epoch * accumulation_steps
        self._num_images, self._seed = num_images, seed
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def place(self, batch: int) -> tuple[int, int]:
        """(epoch, position of the batch's first image in the epoch's order)."""
        epoch, within = divmod(batch, self.batches_per_epoch)
        return epoch, (within * self._world_size + self._rank) * self._batch_size

    def ids(self, batch: int) -> NDArray[np.int64]:
        """The images of a batch [B]. The permutation is made anew only where the epoch is another than last time."""
        epoch, first = self.place(batch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self._num_images, self._seed, epoch)
        return self._order[first : first + self._batch_size]
