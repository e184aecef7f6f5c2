"""The reference that names an encoder on the command line: a place or a published name, and options.

swav_800ep_pretrain.pth.tar
cifar.ckpt?stem=tiny&size=32
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from issl_engine.config import Config
from issl_engine.mistakes import did_you_mean
from issl_engine.recipe.check import first_sentence
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.download import fetch_published
from issl_engine.weights.published import PUBLISHED
from issl_engine.weights.weights_file import WeightsError


class ReferenceOptions(Config):
    """The options behind the ``?`` of a reference: what a file does not show."""

    stem: Literal["small", "tiny", "tiny_padded"] | None = None
    """What a first convolution of 3x3 means: small has a max-pool behind it, tiny none, tiny_padded none and 2 px of
    padding."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Side of the images that the encoder is for, in pixels: they are resized to it and not cropped."""
    root: str = ""
    """Prefix of the encoder's names, such as state_dict.ema.backbone. with the dot, where no layout knows it."""
    num_heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads of a ViT, where they are not those of timm's model of that width."""


def split_reference(reference: str) -> tuple[str, ReferenceOptions]:
    """``FILE?key=value&key=value`` → the file and the options. Raises WeightsError for an unknown or a wrong option."""
    place, _, query = reference.partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    known = ", ".join(ReferenceOptions.model_fields)
    for key, equals, _ in pairs:
        if key not in ReferenceOptions.model_fields or not equals:
            raise WeightsError(
                f"{reference}: '{key}' is no option of a file of weights (after ? may come {known})"
                f"{did_you_mean(key, ReferenceOptions.model_fields)}"
            )
    try:
        return place, ReferenceOptions.model_validate({key: value for key, _, value in pairs})
    except ValidationError as error:
        raise WeightsError(f"{reference}: {first_sentence(error)}") from error


@dataclass(frozen=True, kw_only=True)
class Located:
    """A file, or a folder that this engine wrote."""

    path: Path
    options: ReferenceOptions
    preprocessing: Preprocessing | None = None
    """How images are prepared, where the published name says it; else None."""


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
