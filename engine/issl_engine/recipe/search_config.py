"""The ``search`` part of a recipe: which keys ``issl-engine search`` draws, and from which ranges."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from issl_engine.config import Config
from issl_engine.ranges import range_of


def _checked(written: Any) -> Any:
    if written is not None:
        range_of(written)
    return written


class SearchConfig(Config):
    """What ``issl-engine search`` tries, beyond what the objective and the optimiser declare."""

    ranges: dict[str, Annotated[Any, AfterValidator(_checked)]] = Field(default={})
    """Key → its range, in place of the declared one: a list of choices, or one of {log: [low, high]}, {uniform: [low,
    high]}, {factor: [low, high]} and {factors: [...]}, which multiply the recipe's own value; null leaves the key
    alone. A choice may be a mapping of several keys that belong together."""
