"""From shards to an image set.

Letters: n images of a split, m samples of a shard.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import ImageSet
from issl_engine.sources.byte_ranges import ByteRanges
from issl_engine.sources.images.checks import StoredImage
from issl_engine.sources.shards.classes import ShardClasses
from issl_engine.sources.shards.shard import Shard


def shard_images(shards: list[Shard], classes: ShardClasses | None) -> ImageSet:
    """The images that can be read, in the shards' order; with ``classes`` only those of a class, else all, without."""
    labels = [np.full(len(shard), -1) if classes is None else classes.labels(shard) for shard in shards]
    kept = [_kept(shard, None if classes is None else column) for shard, column in zip(shards, labels, strict=True)]

    def joined(columns: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
        return np.concatenate([column[rows] for column, rows in zip(columns, kept, strict=True)]).astype(dtype)

    return ImageSet(
        labels=joined(labels, np.int64),
        sizes_HW=joined([shard.sizes_HW for shard in shards], np.int32),
        ranges=ByteRanges(
            files=tuple(shard.file for shard in shards),
            file_of=np.repeat(np.arange(len(shards)), list(map(len, kept))).astype(np.int32),
            starts=joined([shard.starts for shard in shards], np.int64),
            lengths=joined([shard.lengths for shard in shards], np.int64),
            names=tuple(shard.names[row] for shard, rows in zip(shards, kept, strict=True) for row in rows.tolist()),
            stamps=tuple(shard.stamp for shard in shards),
        ),
    )


def _kept(shard: Shard, labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Rows of the images to take."""
    taken = np.ones(len(shard), dtype=bool) if labels is None else labels >= 0
    taken[list(shard.reasons)] = False
    return np.flatnonzero(taken)


def stored_images(images: ImageSet) -> Iterator[StoredImage]:
    """To be compared by content: images of different lengths differ."""
    assert images.ranges is not None
    for index, length in enumerate(images.ranges.lengths.tolist()):
        yield StoredImage(images.describe(index), (length,), partial(images.stored_bytes, index))
