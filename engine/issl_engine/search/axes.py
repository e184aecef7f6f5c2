"""What a search varies in an arm: the keys that its objective and optimiser declare, changed by the recipe."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from issl_engine.mistakes import Mistake
from issl_engine.ranges import Choice, Range, range_of
from issl_engine.recipe.schema import Recipe

OWN = "objective"
"""Keys below it are the arm's own; all others are shared."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key (dotted) and its range, absolute: factors are already those of the recipe's own value."""

    key: str
    range: Range

    @property
    def is_shared(self) -> bool:
        return self.key.split(".")[0] != OWN


def axes_of(recipe: Recipe, arm: str) -> list[Axis]:
    """Shared ones first. Declared ranges come in their order, then those that the recipe adds.

    Raises Mistake for a range that does not fit the recipe's own value.
    """
    declared: dict[str, Range | None] = {
        **{f"optimizer.{key}": one for key, one in recipe.optimizer.search_ranges.items()},
        **{f"{OWN}.{key}": one for key, one in recipe.objective.search_ranges.items()},
    }
    written = {key: None if one is None else range_of(one) for key, one in recipe.search.ranges.items()}
    axes = [
        Axis(key=key, range=_fitted(found, value_at(recipe, key), key, arm))
        for key, found in (declared | written).items()
        if found is not None and has_key(recipe, key)
    ]
    return sorted((axis for axis in axes if axis.range.is_open), key=lambda axis: not axis.is_shared)


def _fitted(found: Range, own: Any, key: str, arm: str) -> Range:
    if isinstance(own, Mapping) and not (
        isinstance(found, Choice) and all(isinstance(value, Mapping) for value in found.values)
    ):
        raise Mistake(f"search.ranges.{key}: this key holds several, so each choice must be a mapping of some of them")
    try:
        return found.around(own)
    except Mistake as error:
        raise Mistake(f"search.ranges.{key} (in arm {arm}): {error}") from error


def shared_keys(recipes: Iterable[tuple[str, Recipe]]) -> list[str]:
    """The shared keys of all arms, each once: their places are the columns of one design."""
    return list(dict.fromkeys(axis.key for arm, recipe in recipes for axis in axes_of(recipe, arm) if axis.is_shared))


def has_key(recipe: Recipe, key: str) -> bool:
    """Whether the recipe has this key: that of the shared part may belong to another arm's objective."""
    try:
        value_at(recipe, key)
    except LookupError:
        return False
    return True


def value_at(recipe: Recipe, key: str) -> Any:
    """As JSON has it. Raises LookupError where there is no such key."""
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) and part.isdecimal() else value[part]
    return value


def leaves(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by key, where a choice that is a mapping of several keys becomes those keys."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            leaves({f"{key}.{inner}": one for inner, one in value.items()})
            if isinstance(value, Mapping)
            else {key: value}
        )
    return found
