"""Encoded images kept in memory once they were read, for storage that is slower than the loader."""

from issl_engine.sources.base import ImageSet


class EncodedCache:
    """The first images that are read, up to ``capacity_bytes`` in all; the others are read again each time.

    Nothing is thrown out for another image: an epoch reads each image once, so any would be as good.
    """

    def __init__(self, images: ImageSet, capacity_bytes: int) -> None:
        assert images.encoded
        self.images, self.free_bytes = images, capacity_bytes
        self._kept: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        content = self._kept.get(index)
        if content is None:
            content = self.images.stored_bytes(index)
            if len(content) <= self.free_bytes:
                self._kept[index] = content
                self.free_bytes -= len(content)
        return content
