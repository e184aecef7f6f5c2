"""Whether the keys below ``search.ranges`` are keys of the recipe that a search may draw."""

from collections.abc import Mapping
from typing import Any

from issl_engine.config import Config
from issl_engine.mistakes import did_you_mean
from issl_engine.recipe.check import configs_in
from issl_engine.recipe.tree import Finding, Tree

SEARCHABLE = ("objective", "optimizer", "schedule", "training", "views", "encoder", "regularizers")
"""Parts of a recipe that a search may change; the others say what is measured, or do not touch the weights."""
EQUAL_FOR_ALL = ("training.epochs",)
"""Keys in which trials must not differ, so that none is trained for longer."""


def check_search_keys(tree: Tree, recipe: Config) -> list[Finding]:
    """The keys below ``search.ranges`` that no search can draw. A key of the shared part may belong to another arm's
    component."""
    search = tree.value.get("search") if isinstance(tree.value, dict) else None
    ranges = search.value.get("ranges") if search is not None and isinstance(search.value, dict) else None
    if ranges is None or not isinstance(ranges.value, dict):
        return []
    findings = []
    for key, written in ranges.value.items():
        said = _wrong_with(key, written, recipe)
        if said is not None:
            findings.append(Finding(origin=written.origin, key=f"search.ranges.{key}", message=said))
    return findings


def _wrong_with(key: str, written: Tree, recipe: Config) -> str | None:
    parts = key.split(".")
    if parts[0] not in SEARCHABLE:
        return (
            f"a search does not change this key{did_you_mean(parts[0], SEARCHABLE)} (it may: {', '.join(SEARCHABLE)})"
        )
    if key in EQUAL_FOR_ALL:
        return "all trials are equally long, so this key is not searched; change it for all on the command line"
    holders: list[Any] = [recipe]
    for place, part in enumerate(parts):
        found = [value for holder in holders for value in _inside(holder, part)]
        if not found:
            known = [name for holder in holders[:1] for name in _names_in(holder)]
            where = ".".join(parts[:place])
            close = did_you_mean(part, known)
            return f"unknown key{close}" if close else f"unknown key ('{where}' has: {', '.join(known)})"
        if written.origin.arm is None and place == 0:
            found += _others_like(recipe, part)
        holders = found
    return None


def _inside(holder: Any, part: str) -> list[Any]:
    if isinstance(holder, Config):
        return [getattr(holder, part)] if part in type(holder).model_fields else []
    if isinstance(holder, type) and issubclass(holder, Config):
        return [None] if part in holder.model_fields else []
    if isinstance(holder, tuple | list) and part.isdecimal() and int(part) < len(holder):
        return [holder[int(part)]]
    if isinstance(holder, Mapping):
        return [holder[part]] if part in holder else []
    return []


def _names_in(holder: Any) -> list[str]:
    if isinstance(holder, Config):
        return [name for name in type(holder).model_fields if name != "name"]
    if isinstance(holder, tuple | list):
        return [str(place) for place in range(len(holder))]
    return list(holder) if isinstance(holder, Mapping) else []


def _others_like(recipe: Config, part: str) -> list[Any]:
    """The other components that this part of a recipe may be: another arm may have them."""
    return list(configs_in(type(recipe).model_fields[part].annotation).values())
