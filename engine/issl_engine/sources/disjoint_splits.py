"""No image may be in both splits, under whatever name."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from issl_engine.sources.base import SourceError


class StoredImage(NamedTuple):
    """``name`` is how messages name it; images of different ``key`` differ; ``read`` gives its bytes."""

    name: str
    key: tuple[int, ...]
    read: Callable[[], bytes]


def check_disjoint(train: Iterable[StoredImage], test: Iterable[StoredImage]) -> None:
    """Compares the content of all images of one key. Raises SourceError that names the first pair of equals."""
    candidates: defaultdict[tuple[int, ...], list[StoredImage]] = defaultdict(list)
    for image in train:
        candidates[image.key].append(image)
    digests: dict[str, bytes] = {}
    shared = [
        (other.name, image.name)
        for image in test
        for other in candidates.get(image.key, ())
        if _digest(image, digests) == _digest(other, digests)
    ]
    if shared:
        raise SourceError(
            f"{shared[0][1]}: the same image is in the training split, as {shared[0][0]} ({len(shared)} such "
            f"{'pair' if len(shared) == 1 else 'pairs'}); remove it from one of them"
        )


def _digest(image: StoredImage, known: dict[str, bytes]) -> bytes:
    """SHA-256 of its bytes."""
    if image.name not in known:
        known[image.name] = hashlib.sha256(image.read()).digest()
    return known[image.name]
