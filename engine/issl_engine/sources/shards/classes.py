"""From the labels that shards hold to places in a list of classes.

Letters: m samples of a shard.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.sample import is_number
from issl_engine.sources.shards.shard import Shard


@dataclass(frozen=True, kw_only=True)
class ShardClasses:
    """``names`` in order; ``places``: label as shards hold it → place in ``names``. Other labels are left out."""

    names: tuple[str, ...]
    places: dict[str, int]

    def labels(self, shard: Shard) -> NDArray[np.int64]:
        """[m]; -1 for a sample without label or of a class that is left out."""
        places = np.array([*(self.places.get(label, -1) for label in shard.labels), -1], dtype=np.int64)
        return places[shard.label_of]


def classes_of_shards(
    shards: list[Shard], *, known: tuple[str, ...] | None, given: tuple[str, ...] | None
) -> ShardClasses:
    """Names of labels: ``known`` are those that the data set itself lists, ``given`` the user's own, which choose.

    Without either, classes are named by titles, else by the labels; numbers are ordered by value. Raises SourceError
    for a label that is no place in such a list.
    """
    titles = _titles(shards)
    labels = sorted(titles, key=int) if all(map(is_number, titles)) else sorted(titles)
    titled = any(titles.values())
    if known is not None:
        names, place_of = _distinct(known), _places_in(known, shards, "the data set's own list of classes")
    else:
        names = _distinct(tuple(titles[label] or label for label in labels))
        place_of = {label: place for place, label in enumerate(labels)}
    if given is None:
        return ShardClasses(names=names, places=place_of)
    are_numbers = known is None and not titled and all(map(is_number, labels))
    if are_numbers and not any(map(is_number, given)):
        return ShardClasses(names=given, places=_places_in(given, shards, "source.classes"))
    chosen = {name: place for place, name in enumerate(given)}
    places = {label: chosen[names[place]] for label, place in place_of.items() if names[place] in chosen}
    return ShardClasses(names=given, places=places)


def _titles(shards: list[Shard]) -> dict[str, str]:
    """Every label → its class's name, empty where none is given."""
    found: dict[str, str] = {}
    for shard in shards:
        for label, title in zip(shard.labels, shard.titles or [""] * len(shard.labels), strict=True):
            other = found.setdefault(label, title)
            if other != title:
                raise SourceError(
                    f"{shard.file}: label {label} is called '{title}' here, but '{other}' in another file; give both "
                    "one name, or take names from source.classes alone"
                )
    return found


def _places_in(names: tuple[str, ...], shards: list[Shard], what: str) -> dict[str, int]:
    """Label → place in ``names``, of labels that are numbers or names."""
    by_name = {name: place for place, name in enumerate(names)}
    places = {}
    for shard in shards:
        for label in shard.labels:
            place = int(label) if is_number(label) and int(label) < len(names) else by_name.get(label)
            if place is None:
                raise SourceError(
                    f"{shard.file}: there are images with label {label}, which is no place in {what}, which has "
                    f"{len(names)} (0 to {len(names) - 1}); correct one of them"
                )
            places[label] = place
    return places


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that are there twice (ImageNet has two cranes) get their places added."""
    counts = Counter(names)
    return tuple(f"{name} ({place})" if counts[name] > 1 else name for place, name in enumerate(names))
