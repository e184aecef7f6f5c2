"""Recipe → YAML: every key with its value and its meaning, readable again by ``load_recipe``."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from issl_engine.config import Config
from issl_engine.recipe.schema import Recipe, RecipeFile

WIDTH = 110


def render(recipe: Recipe, derived: Mapping[str, object] | None = None, *, commented: bool = True) -> str:
    """The resolved recipe as YAML, keys in the schema's order.

    ``commented`` puts each key's meaning above it, once. ``derived`` (values that follow from the recipe,
    such as the scaled learning rate) goes to the end as comments.
    """
    lines = _Writer(commented).mapping(recipe, list(type(recipe).model_fields), indent=0)
    return "\n".join([*lines, *_derived(derived)]) + "\n"


def render_file(file: RecipeFile, *, commented: bool = True) -> str:
    """All arms of a recipe file: what they share, then what each has of its own under ``arms``."""
    arms = file.arms
    first = next(iter(arms.values()))
    if list(arms) == [first.objective.name]:
        return render(first, commented=commented)
    keys = list(type(first).model_fields)
    shared = [key for key in keys if all(getattr(arm, key) == getattr(first, key) for arm in arms.values())]
    own = [key for key in keys if key not in shared]
    writer = _Writer(commented)
    lines = [*writer.mapping(first, shared, indent=0), "arms:"]
    for name, arm in arms.items():
        lines.append(f"  {name}:{'' if own else ' {}'}")
        lines += writer.mapping(arm, own, indent=4)
    return "\n".join(lines) + "\n"


def _derived(values: Mapping[str, object] | None) -> list[str]:
    if not values:
        return []
    return [
        "",
        "# These values follow from the recipe:",
        *(f"#   {key}: {_inline(value)}" for key, value in values.items()),
    ]


class _Writer:
    def __init__(self, commented: bool) -> None:
        self._commented = commented
        self._explained: set[tuple[str, str]] = set()

    def mapping(self, config: Config, keys: list[str], indent: int) -> list[str]:
        lines: list[str] = []
        for key in keys:
            lines += self._comment(config, key, indent)
            lines += self._entry(key, getattr(config, key), indent)
        return lines

    def _entry(self, key: str, value: Any, indent: int) -> list[str]:
        pad = " " * indent
        if isinstance(value, Config):
            return [f"{pad}{key}:", *self.mapping(value, list(type(value).model_fields), indent + 2)]
        if isinstance(value, tuple | list) and value and all(isinstance(item, Config) for item in value):
            lines = [f"{pad}{key}:"]
            for item in value:
                lines += self._item(item, indent + 2)
            return lines
        return [f"{pad}{key}: {_inline(value)}"]

    def _item(self, item: Config, indent: int) -> list[str]:
        """A list entry: a dash before its first key, and that key's comment above the dash."""
        lines = self.mapping(item, list(type(item).model_fields), indent + 2)
        first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
        comments = [line.removeprefix("  ") for line in lines[:first]]
        return [*comments, f"{' ' * indent}- {lines[first].lstrip()}", *lines[first + 1 :]]

    def _comment(self, config: Config, key: str, indent: int) -> list[str]:
        text = type(config).model_fields[key].description
        if not self._commented or not text or (key, text) in self._explained:
            return []
        self._explained.add((key, text))
        start = " " * indent + "# "
        return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=start, subsequent_indent=start)


def _inline(value: object) -> str:
    """One line of YAML."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    """The value with types that YAML knows."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
