"""Images that judge a probe and were fitted too: found by content, whatever they are called.

Letters: n images.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from issl_engine.sources.base import ImageSet

SAMPLE_BYTES = 512
"""What is read of files of one length before they are compared as wholes."""
NAMED_AT_MOST = 3

Pair = tuple[int, int]
"""(Place among the judged images, place among the fitted)."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Some images of a split; ``places`` (ascending) None for all."""

    images: ImageSet
    places: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.images) if self.places is None else len(self.places)

    def all_places(self) -> list[int]:
        return list(range(len(self.images))) if self.places is None else list(self.places)


def shared_images(fitted: Chosen, judged: Chosen) -> list[Pair]:
    """Every judged image that is stored byte by byte as a fitted one, with the first such.

    Lengths are compared first, then a few bytes from the middle, then all: of many images few are read. Raises OSError.
    """
    stages: list[Callable[[ImageSet, int], Hashable]] = [_length, _middle, _digest]
    fitted_left, judged_left = fitted.all_places(), judged.all_places()
    left: list[Pair] = []
    for stage in stages:
        places: defaultdict[Hashable, list[int]] = defaultdict(list)
        for place in fitted_left:
            places[stage(fitted.images, place)].append(place)
        found = {place: key for place in judged_left if (key := stage(judged.images, place)) in places}
        # Key by key: pixels all have one length, and each judged image has all fitted ones as candidates then.
        fitted_left = sorted(place for key in set(found.values()) for place in places[key])
        judged_left = list(found)
        left = [(place, places[key][0]) for place, key in found.items()]
    return left


def describe_pairs(pairs: list[Pair], fitted: ImageSet, judged: ImageSet) -> str:
    """The first of them in words."""
    shown = [f"{judged.describe(j)} is {fitted.describe(f)}" for j, f in pairs[:NAMED_AT_MOST]]
    more = len(pairs) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _length(images: ImageSet, place: int) -> Hashable:
    if images.paths is not None:
        return os.path.getsize(images.paths[place])
    if images.ranges is not None:
        return int(images.ranges.lengths[place])
    return images.pixels[place].shape if images.pixels is not None else None


def _middle(images: ImageSet, place: int) -> bytes:
    if images.paths is not None:
        with open(images.paths[place], "rb") as file:
            file.seek(os.fstat(file.fileno()).st_size // 2)
            return file.read(SAMPLE_BYTES)
    content = images.stored_bytes(place)
    return content[len(content) // 2 :][:SAMPLE_BYTES]


def _digest(images: ImageSet, place: int) -> bytes:
    return hashlib.sha256(images.stored_bytes(place)).digest()
