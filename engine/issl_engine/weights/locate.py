"""Where the weights lie that a user names."""

from dataclasses import dataclass
from pathlib import Path

from issl_engine.weights.download import fetch_published
from issl_engine.weights.errors import WeightsError
from issl_engine.weights.preprocessing import Preprocessing
from issl_engine.weights.published import PUBLISHED
from issl_engine.weights.reference import ReferenceOptions, split_reference


@dataclass(frozen=True, kw_only=True)
class Located:
    """A file, or a folder of this engine's."""

    path: Path
    options: ReferenceOptions
    preprocessing: Preprocessing | None = None
    """Where it is known otherwise than by the file's layout."""


def locate(reference: str) -> Located:
    """A path as it is, with or without options behind a ``?``; a published name is fetched. Raises WeightsError."""
    if Path(reference).exists():
        return Located(path=Path(reference), options=ReferenceOptions())
    place, options = split_reference(reference)
    if place in PUBLISHED and not Path(place).exists():
        published = PUBLISHED[place]
        return Located(path=fetch_published(place, published), options=options, preprocessing=published.preprocessing)
    family, colon, _ = place.partition(":")
    known = [name for name in PUBLISHED if colon and name.startswith(f"{family}:")]
    if known:
        raise WeightsError(f"{place}: no such published weights; there are {', '.join(known)}, and timm:NAME")
    return Located(path=Path(place), options=options)
