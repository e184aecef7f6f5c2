"""Images that are there more than once: with the same bytes, or with other bytes but alike to the eye.

For images that look alike, a perceptual hash finds candidates and small pictures decide. The hash is a block mean hash
(Yang, Gu and Niu 2006): 8 x 8 means of grey, each above or below their median. A copy that was encoded or scaled again
differs in a few bits at most.

Letters: n images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = 16
"""Side of the small pictures, in pixels."""
BANDS = 4
"""Parts of a hash, 16 bits each: hashes that differ in fewer bits than there are bands share at least one."""
MOST_IN_A_BAND = 512
"""Of more hashes with a band in common each is compared with so many of its neighbours only: plain images."""
LARGEST_DIFFERENCE = 4.0
"""Mean difference of two small pictures, of 255, up to which they look alike."""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Images that are there more than once: groups of them, each image as (split, how messages name it)."""

    same_bytes: list[list[tuple[str, str]]]
    look_alike: list[list[tuple[str, str]]]
    """Without the groups of which all are of the same bytes."""

    @staticmethod
    def across_splits(groups: list[list[tuple[str, str]]]) -> int:
        """Of the groups, how many have images in more than one split."""
        return sum(len({split for split, _ in group}) > 1 for group in groups)


def find_repeated(names: list[tuple[str, str]], digests: list[bytes], thumbnails: NDArray[np.uint8]) -> Repeated:
    """Of images with these names (split, how messages name it), digests of their bytes and ``thumbnails`` [n, 16, 16]:
    groups in the order of their first images."""
    same: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        same.setdefault(digest, []).append(place)
    alike = [group.tolist() for group in look_alikes(thumbnails)]
    return Repeated(
        same_bytes=[[names[place] for place in group] for group in same.values() if len(group) > 1],
        look_alike=[[names[place] for place in group] for group in alike if len({digests[p] for p in group}) > 1],
    )


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """A small grey picture [16, 16]."""
    return np.asarray(image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def block_mean_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Of small pictures [n, 16, 16]: hashes [n, 4], 64 bits each."""
    n = len(thumbnails)
    half = THUMBNAIL // 2
    means = thumbnails.reshape(n, half, 2, half, 2).mean((2, 4)).reshape(n, half * half)
    bits = means > np.median(means, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint16)


def look_alikes(thumbnails: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Groups of two or more images that look alike, their places ascending. ``thumbnails`` [n, 16, 16]."""
    hashes = block_mean_hashes(thumbnails)
    roots = np.arange(len(thumbnails))
    for band in range(BANDS):
        order = np.argsort(hashes[:, band], kind="stable")
        for distance in range(1, MOST_IN_A_BAND):
            first, second = order[:-distance], order[distance:]
            shared = hashes[first, band] == hashes[second, band]
            if not shared.any():
                break
            first, second = first[shared], second[shared]
            differing = np.bitwise_count(hashes[first] ^ hashes[second]).sum(1)
            first, second = first[differing < BANDS], second[differing < BANDS]
            gaps = np.abs(thumbnails[first].astype(np.int16) - thumbnails[second]).mean((1, 2))
            for a, b in zip(first[gaps <= LARGEST_DIFFERENCE], second[gaps <= LARGEST_DIFFERENCE], strict=True):
                _join(roots, int(a), int(b))
    return _groups(roots)


def _root(roots: NDArray[np.int64], place: int) -> int:
    while roots[place] != place:
        roots[place] = roots[roots[place]]
        place = int(roots[place])
    return place


def _join(roots: NDArray[np.int64], a: int, b: int) -> None:
    first, second = sorted((_root(roots, a), _root(roots, b)))
    roots[second] = first


def _groups(roots: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    found = np.array([_root(roots, place) for place in range(len(roots))], dtype=np.int64)
    order = np.argsort(found, kind="stable")
    starts = np.flatnonzero(np.diff(found[order], prepend=-1))
    return [group for group in np.split(order, starts[1:]) if len(group) > 1]
