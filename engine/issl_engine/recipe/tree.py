"""YAML as a tree that remembers where every value was written, so that errors name file, line and key."""

import re
from dataclasses import dataclass, replace
from typing import Any

import yaml

from issl_engine.mistakes import Mistake

Scalar = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The place where a value was written: ``recipes/x.yaml:3`` or ``command line``. ``arm`` if in that arm's part."""

    where: str
    arm: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A value: a scalar, a list of trees or a mapping of trees. ``text`` is a scalar as it was written."""

    value: "Scalar | list[Tree] | dict[str, Tree]"
    origin: Origin
    text: str = ""

    def plain(self) -> Any:
        """The value without its origins."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def in_arm(self, arm: str) -> "Tree":
        """The same tree, marked as this arm's part."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.in_arm(arm) for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.in_arm(arm) for child in value]
        return replace(self, value=value, origin=replace(self.origin, arm=arm))


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One thing that is wrong: its place, its key (dotted, may be empty), and a sentence about it."""

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        key = ".".join(part for part in (f"arms.{self.origin.arm}" if self.origin.arm else "", self.key) if part)
        return f"{self.origin.where}: {key}: {self.message}" if key else f"{self.origin.where}: {self.message}"


class _Composer(yaml.SafeLoader):
    """Reads scalars by the rules of YAML 1.2: ``1e-3`` is a number, ``no`` and ``12:30`` are text.

    true and false stay text as well; the declared type decides what they are.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's name and place)


_NUMBER_START = list("-+.0123456789")
_Composer.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Composer.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9][0-9_]*$"), _NUMBER_START)
_Composer.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    _NUMBER_START,
)


def compose(text: str) -> yaml.Node | None:
    """PyYAML's nodes, each with its place in the text; None for an empty one. Raises yaml.YAMLError."""
    node: yaml.Node | None = yaml.compose(text, Loader=_Composer)
    return node


def parse(text: str, source: str, *, with_lines: bool = True) -> tuple[Tree | None, list[Finding]]:
    """The tree of a YAML text and the mistakes in it; no tree (None) if the text is empty or not YAML."""
    reader = _Reader(source, with_lines)
    try:
        node = compose(text)
    except yaml.MarkedYAMLError as error:
        line, message = _syntax_sentence(error, text)
        reader.add(line, "", message)
        return None, reader.mistakes
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        reader.add(line, "", f"a control character (code {error.character:#x}) is not allowed here; remove it")
        return None, reader.mistakes
    except RecursionError:
        reader.add(0, "", "lists or mappings are nested too deeply in this file; write them flatter")
        return None, reader.mistakes
    return None if node is None else reader.read(node, ""), reader.mistakes


def _syntax_sentence(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """The line (from 0) and a sentence for a text that PyYAML cannot parse."""
    problem, context = error.problem or "it cannot be read", error.context or ""
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    line = next(iter(text.splitlines()[number : number + 1]), "")
    if "\\t" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
        return number, "a tab stands where YAML allows spaces only; indent with spaces"
    if "quoted scalar" in context and error.context_mark:
        return error.context_mark.line, "the quote that opens here is not closed"
    if "flow" in context and error.context_mark:
        return (
            error.context_mark.line,
            "the bracket that opens here is not closed, or a ',' is missing inside it",
        )
    if "expected a single document" in context:
        return number, "a second document starts here ('---'); a recipe file holds one"
    if "expected <block end>" in problem:
        return number, "the indentation does not fit the lines above; align this key with its neighbours"
    if "mapping values are not allowed" in problem:
        return number, "a ':' does not fit here; the line above may lack one, or this line have one too many"
    if "could not find expected ':'" in problem:
        return number, "a key without ':' stands here or on the line above; write 'key: value'"
    return number, f"this is not valid YAML ({problem}{', ' + context if context else ''})"


class _Reader:
    """Turns PyYAML's nodes into a Tree, collecting mistakes."""

    def __init__(self, source: str, with_lines: bool) -> None:
        self.source, self.with_lines = source, with_lines
        self.mistakes: list[Finding] = []
        self._open: list[int] = []

    def origin(self, line: int) -> Origin:
        return Origin(where=f"{self.source}:{line + 1}" if self.with_lines else self.source)

    def add(self, line: int, key: str, message: str) -> None:
        self.mistakes.append(Finding(origin=self.origin(line), key=key, message=message))

    def read(self, node: yaml.Node, path: str, line: int | None = None) -> Tree:
        line = node.start_mark.line if line is None else line
        if id(node) in self._open:
            self.add(line, path, "an alias stands inside the value that it repeats; write the value out")
            return Tree(value=None, origin=self.origin(line))
        self._open.append(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.read(child, f"{path}.{i}" if path else str(i)) for i, child in enumerate(node.value)]
        else:
            assert isinstance(node, yaml.ScalarNode)
            value = self._scalar(node, path)
        self._open.pop()
        return Tree(
            value=value,
            origin=self.origin(line),
            text=node.value if isinstance(node, yaml.ScalarNode) else "",
        )

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line
            if not isinstance(key_node, yaml.ScalarNode):
                self.add(
                    line,
                    path,
                    "a key must be one word, not a list or mapping; if this is text, put it in quotes",
                )
                continue
            key = key_node.value
            if key == "<<":
                self.add(
                    line,
                    path,
                    "merge keys ('<<') are not read; write the keys out, or share them between arms",
                )
                continue
            child_path = f"{path}.{key}" if path else key
            if key in found:
                self.add(
                    line,
                    child_path,
                    f"this key is here a second time (first on line {first_line[key] + 1}); keep one",
                )
                continue
            first_line[key] = line
            found[key] = self.read(value_node, child_path, line)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Scalar:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), str(node.value)
        if kind == "null":
            return None
        try:
            if kind == "int":
                return int(text)
            if kind == "float":
                return float(re.sub(r"\.(inf|nan)", r"\1", text, flags=re.IGNORECASE))
        except ValueError:
            kind = "str"
        if kind not in ("str", "bool"):
            self.add(node.start_mark.line, path, f"the tag '{node.tag}' is not read here; remove it")
        return text


def merge(base: Tree | None, over: Tree, *, named: bool = True) -> Tree:
    """``over`` laid upon ``base``: mappings merge, everything else is replaced.

    A mapping whose ``name`` differs from the base's replaces it wholly, because the base's other keys belong
    to another component; ``named`` False (the recipe itself, whose name is a title) switches that off.
    """
    if base is None or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if named and _renames(base, over):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged.get(key), child)
    return replace(base, value=merged)


def _renames(base: Tree, over: Tree) -> bool:
    assert isinstance(base.value, dict)
    assert isinstance(over.value, dict)
    before, now = base.value.get("name"), over.value.get("name")
    return before is not None and now is not None and before.value != now.value


def set_value(tree: Tree | None, keys: tuple[str, ...], value: Tree, *, path: str = "") -> Tree:
    """``tree`` with ``value`` merged in at ``keys``; a number is a place in a list. Raises Mistake."""
    if not keys:
        return merge(tree, value)
    key, rest = keys[0], keys[1:]
    here = f"{path}.{key}" if path else key
    if tree is not None and isinstance(tree.value, list):
        count = len(tree.value)
        if not key.isdecimal():
            raise Mistake(f"'{path}' is a list of {count}; give a place in it, such as {path}.0")
        if int(key) >= count:
            raise Mistake(
                f"'{path}' has {count} entries, the last is {path}.{count - 1}" if count else f"'{path}' is empty"
            )
        entries = list(tree.value)
        entries[int(key)] = set_value(entries[int(key)], rest, value, path=here)
        return replace(tree, value=entries)
    base = tree if tree is not None and isinstance(tree.value, dict) else Tree(value={}, origin=value.origin)
    over = Tree(value={key: value}, origin=value.origin)
    if path and not rest and _renames(base, over):
        return over
    assert isinstance(base.value, dict)
    return replace(base, value={**base.value, key: set_value(base.value.get(key), rest, value, path=here)})
