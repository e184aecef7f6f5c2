"""Changes single keys in the text of a recipe, and leaves its comments, its order and its other lines as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from issl_engine.recipe.tree import compose


class CannotEdit(Exception):
    """The text has a form that this editor leaves alone; write the whole recipe instead."""


def set_key(text: str, keys: Sequence[str], value: Any) -> str:
    """The text with ``value`` at ``keys``, which are added where they are missing. Raises CannotEdit."""
    root = compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise CannotEdit("no mapping")
    node, rest = _deepest(root, list(keys))
    if not rest:
        return _replaced(text, node, one_line(value))
    for key in reversed(rest[1:]):
        value = {key: value}
    entry = f"{rest[0]}: {one_line(value)}"
    if isinstance(node, yaml.MappingNode):
        return _added(text, node, entry)
    if isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null"):
        return _replaced(text, node, "{" + entry + "}")
    raise CannotEdit(".".join(keys))


def one_line(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _deepest(node: yaml.Node, keys: list[str]) -> tuple[yaml.Node, list[str]]:
    """The last node that is there on the way, and the keys that are missing below it."""
    for place, key in enumerate(keys):
        child = _child(node, key)
        if child is None:
            return node, keys[place:]
        node = child
    return node, []


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode):
        if not key.isdecimal() or int(key) >= len(node.value):
            raise CannotEdit(key)
        entry: yaml.Node = node.value[int(key)]
        return entry
    return None


def _replaced(text: str, node: yaml.Node, new: str) -> str:
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise CannotEdit("a block")
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        raise CannotEdit("a block of text")
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if start == end and text[start - 1 : start] == ":" else ""  # the empty value of 'key:'
    return text[:start] + space + new + text[end:]


def _added(text: str, node: yaml.MappingNode, entry: str) -> str:
    if node.flow_style:
        end = node.end_mark.index - 1
        before = text[:end].rstrip()
        comma = ", " if node.value and not before.endswith(",") else " " if node.value else ""
        return before + comma + entry + text[end:]
    if not node.value:
        raise CannotEdit("an empty block")
    indent = " " * node.value[0][0].start_mark.column
    end = _end_of(text, node)
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:line_end]}\n{indent}{entry}{text[line_end:]}"


def _end_of(text: str, node: yaml.Node) -> int:
    """Where the last thing in a node ends: a block's own end lies after the comments and empty lines below it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = node.end_mark.index
    return len(text[:end].rstrip()) if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") else end


def changed_keys(before: Any, after: Any, keys: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Keys → new values, where two recipes (as JSON) differ; lists are taken whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        found: dict[tuple[str, ...], Any] = {}
        for key, value in after.items():
            found |= changed_keys(before[key], value, (*keys, key))
        return found
    return {} if before == after else {keys: after}
