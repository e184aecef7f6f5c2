"""What sources check of the images that they found: few are corrupt, labels are known, no image is in both splits."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import CorruptFile, SourceError, listed

_log = logging.getLogger("issl_engine")

NAMED_AT_MOST = 10
"""Corrupt images that a message names."""
COMPARED_AT_MOST = 20_000
"""Up to so many images, those of equal length are compared by content; above, links to one file at most."""


def report_corrupt(folder: Path, corrupt: tuple[CorruptFile, ...], *, allowed: int, what: str) -> None:
    """Warns of corrupt images; more than ``allowed`` raise SourceError. ``what`` is the plural that messages use."""
    reasons = [f"{file.path} ({file.reason})" for file in corrupt]
    named = listed(reasons, at_most=NAMED_AT_MOST, between="; ")
    if len(corrupt) > allowed:
        raise SourceError(
            f"{folder}: {len(corrupt)} {what} cannot be read, more than source.max_corrupt_files ({allowed}); "
            f"mend or remove {named}"
        )
    if corrupt:
        _log.warning("%s: left out %d %s that cannot be read: %s", folder, len(corrupt), what, named)


def check_labels(place: str, labels: NDArray[Any], known: NDArray[Any], *, named: bool) -> None:
    """Raises SourceError, which names ``place``, for a label that is not among ``known``: the labels of source.classes
    where ``named``, else those of the training split."""
    odd = np.setdiff1d(labels, known)
    if odd.size:
        why = f"source.classes names only {len(known)}" if named else "the training split has none"
        mend = "correct the labels or name all classes" if named else "leave such images out"
        raise SourceError(f"{place}: there are images with label {odd[0]}, but {why}; {mend}")


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
