"""Every key of a YAML file: what it takes, its default and its meaning, from the fields that ``show`` reads."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from issl_engine.config import Config
from issl_engine.docs.markdown import anchor, code, plain, table
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.recipe.schema import Recipe
from issl_engine.recipe.suite import Suite
from issl_engine.theory.schema import TheoryRecipe

ROOTS: dict[str, type[Config]] = {"recipe": Recipe, "suite": Suite, "theory": TheoryRecipe}
"""Heading → what a whole file holds. A Config is explained below the first of them that reaches it."""

HEAD = ("key", "default", "takes", "meaning")
WORDS = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    type(None): "null",
    Any: "any value",
}
BOUNDS = {
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Gt: ("gt", "&gt;"),
    annotated_types.Le: ("le", "≤"),
    annotated_types.Lt: ("lt", "&lt;"),
}


def keys() -> str:
    """All keys: of a recipe, then those that only a suite or an experiment has. Objectives' are in their own file."""
    places = _places()
    lines: list[str] = []
    for title, root in ROOTS.items():
        lines += [f"## {title}", "", plain(inspect.getdoc(root) or ""), "", *_key_table(root, places)]
        for config, (root_title, heading) in places.items():
            if root_title == title and not issubclass(config, ObjectiveConfig):
                lines += [f"### {heading}", "", plain(inspect.getdoc(config) or ""), "", *_key_table(config, places)]
    return "\n".join(lines)


def key_table(config: type[Config]) -> list[str]:
    """Lines of the table of one Config's keys, without links."""
    return _key_table(config, {})


Places = Mapping[type[Config], tuple[str, str]]
"""Config → the root below which it is explained, and its heading there."""


def _places() -> Places:
    places: dict[type[Config], tuple[str, str]] = {}
    for title, root in ROOTS.items():
        for path, config in _below(root, ""):
            places.setdefault(config, (title, " ".join([path, ", ".join(_names(config))]).strip()))
    return places


def _below(
    config: type[Config], path: str, inside: tuple[type[Config], ...] = ()
) -> Iterator[tuple[str, type[Config]]]:
    """The Configs that a Config's keys hold, each with the path of its key; a list's entry by its place, 0."""
    inside = (*inside, config)
    for key, field in config.model_fields.items():
        here = f"{path}.{key}" if path else key
        configs = [one for one in _configs(field.annotation) if one not in inside]
        is_list = _holds_a_list(field.annotation)
        found = [(f"{here}.0" if is_list and not _names(one) else here, one) for one in configs]
        yield from found
        for place, one in found:
            yield from _below(one, place, inside)


def _configs(annotation: Any) -> list[type[Config]]:
    """All Configs that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [config for inner in get_args(annotation) for config in _configs(inner)]


def _holds_a_list(annotation: Any) -> bool:
    return tuple in (get_origin(annotation), *(get_origin(inner) for inner in get_args(annotation)))


def _names(config: type[Config]) -> tuple[str, ...]:
    """The names by which a recipe chooses this Config among others."""
    prefix = getattr(config, "name_prefix", None)
    if prefix:
        return (f"{prefix}MODEL",)
    field = config.model_fields.get("name")
    return get_args(field.annotation) if field is not None and _is_choice("name", field) else ()


def _is_choice(key: str, field: FieldInfo) -> bool:
    return key == "name" and get_origin(field.annotation) is Literal


def _key_table(config: type[Config], places: Places) -> list[str]:
    rows = [
        [code(key), _default(field), _takes(field.annotation, field.metadata, places), plain(field.description or "")]
        for key, field in config.model_fields.items()
        if not _is_choice(key, field)
    ]
    return table(HEAD, rows) if rows else ["It has no key besides its name.", ""]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "–"
    if isinstance(value, Config):
        changed = value.model_dump(mode="json", exclude_unset=True)
        if _names(type(value)):
            changed = {"name": _names(type(value))[0]} | changed
        return code(_yaml(changed)) if changed else "its own"
    return code(_yaml(to_jsonable_python(value)))


def _yaml(value: Any) -> str:
    """One line, as it stands in a recipe."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _takes(annotation: Any, metadata: Sequence[Any], places: Places) -> str:
    """What may be written there, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(inner[0], [*inner[1:], *metadata], places)
    if origin is Literal:
        return ", ".join(code(str(value)) for value in inner)
    if origin in (Union, types.UnionType):
        choices = list(dict.fromkeys(_takes(one, (), places) for one in inner))
        return (" or " if len(choices) < 4 else ", ").join(choices)
    if origin is tuple and inner[1:] == (Ellipsis,):
        return f"list{_length(metadata)} of: {_takes(inner[0], (), places)}"
    if origin is tuple:
        return f"list ({len(inner)}) of: {_takes(inner[0], (), places)}"
    if origin is dict:
        return f"mapping to: {_takes(inner[1], (), places)}"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return _link(annotation, places)
    return WORDS.get(annotation, str(annotation)) + _bounds(metadata)


def _link(config: type[Config], places: Places) -> str:
    if issubclass(config, ObjectiveConfig):
        return f"[{config.model_fields['name'].default}](../engine/OBJECTIVES.md#{config.model_fields['name'].default})"
    if config not in places:
        return "a mapping"
    heading = places[config][1]
    return f"[{', '.join(_names(config)) or heading}](#{anchor(heading)})"


def _flat(metadata: Sequence[Any]) -> list[Any]:
    return [one for item in metadata for one in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _bounds(metadata: Sequence[Any]) -> str:
    limits = [
        f" {BOUNDS[type(one)][1]} {getattr(one, BOUNDS[type(one)][0])}"
        for one in _flat(metadata)
        if type(one) in BOUNDS
    ]
    return ",".join(limits)


def _length(metadata: Sequence[Any]) -> str:
    return "".join(f" ({one.min_length} or more)" for one in _flat(metadata) if isinstance(one, annotated_types.MinLen))
