"""Tree → Recipe (or another Config). pydantic's errors become sentences about the user's own keys."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import Tag, ValidationError

from issl_engine.config import Config
from issl_engine.mistakes import did_you_mean
from issl_engine.probing.protocols import PROTOCOLS
from issl_engine.recipe.schema import Recipe
from issl_engine.recipe.tree import Finding, Tree

ConfigT = TypeVar("ConfigT", bound=Config)
Root = type[Config]
"""The schema of a whole file: a Recipe, a suite of probes, or an experiment."""
Path = tuple[str | int, ...]
"""Keys and list places from the recipe's top."""

EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of less than 4300 digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""pydantic's error type → what belongs there ("must be ...")."""


def check_recipe(tree: Tree) -> tuple[Recipe | None, list[Finding]]:
    """The recipe, or None and what is wrong with it."""
    return check_config(tree, Recipe)


def check_config(tree: Tree, root: type[ConfigT]) -> tuple[ConfigT | None, list[Finding]]:
    """The file as a ``root``, or None and what is wrong with it."""
    data = tree.plain()
    try:
        return root.model_validate(data), []
    except ValidationError as error:
        data = _with_text_restored(root, tree, data, error)
    try:
        return root.model_validate(data), []
    except ValidationError as error:
        return None, _findings(root, tree, error)


def first_sentence(error: ValidationError) -> str:
    """The first complaint about a Config that no recipe file holds: ``size: must be at least 8, not 3``."""
    item = error.errors(include_url=False)[0]
    if item["type"] in EXPECTED:
        said = f"must be {EXPECTED[item['type']].format(**_context(item))}, not {item['input']}"
    elif item["type"] in ("value_error", "assertion_error"):
        said = str(item["ctx"]["error"])
    else:
        said = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    key = _dotted(tuple(item["loc"]))
    return f"{key}: {said}" if key else said


def _with_text_restored(root: Root, tree: Tree, data: Any, error: ValidationError) -> Any:
    """``data`` with numbers as they were written wherever the schema wants text (``name: 2024``)."""
    for item in error.errors(include_url=False):
        if item["type"] in ("string_type", "path_type"):
            path = _path_of(root, tree, item["loc"], item["type"])
            node = _at(tree, path)
            if path and isinstance(node.value, int | float):
                parent = data
                for key in path[:-1]:
                    parent = parent[key]
                parent[path[-1]] = node.text
    return data


def _findings(root: Root, tree: Tree, error: ValidationError) -> list[Finding]:
    grouped: dict[Path, list[Mapping[str, Any]]] = {}
    for item in error.errors(include_url=False):
        path = _path_of(root, tree, item["loc"], item["type"])
        if item["type"] == "too_short" and len(_at(tree, path).plain()) >= item["ctx"]["min_length"]:
            continue  # pydantic counts the entries without mistakes, and those with one are reported by themselves
        if item["type"] == "missing" and isinstance(path[-1], int):
            path = path[:-1]
        grouped.setdefault(path, []).append(item)
    return [_finding(root, tree, path, items) for path, items in grouped.items()]


def _finding(root: Root, tree: Tree, path: Path, items: list[Mapping[str, Any]]) -> Finding:
    item, kind = items[-1], items[-1]["type"]
    if kind == "missing" and path and isinstance(item["loc"][-1], str):
        return _missing(root, tree, path)
    node = _at(tree, path)
    if kind == "extra_forbidden":
        message = _unknown_key(root, tree, path)
    elif kind in ("union_tag_not_found", "union_tag_invalid"):
        path, node, message = _wrong_component(root, tree, path)
    elif kind == "missing":
        message = f"must have {item['loc'][-1] + 1} entries, not {len(node.plain())}"
    elif kind in ("too_short", "too_long"):
        limit = item["ctx"].get("min_length", item["ctx"].get("max_length"))
        entries = "entry" if limit == 1 else "entries"
        bound = "least" if kind == "too_short" else "most"
        message = f"must have at {bound} {limit} {entries}, not {len(node.plain())}"
    elif kind in ("value_error", "assertion_error"):
        message = str(item["ctx"]["error"])
    elif kind in EXPECTED:
        wanted = dict.fromkeys(
            EXPECTED[each["type"]].format(**_context(each)) for each in items if each["type"] in EXPECTED
        )
        message = f"must be {' or '.join(wanted)}{_or_null(root, tree, path)}, not {_shown(node)}"
    else:
        message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    return Finding(origin=node.origin, key=_dotted(path), message=message)


def _context(item: Mapping[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = item.get("ctx", {})
    return {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}


def _or_null(root: Root, tree: Tree, path: Path) -> str:
    """ " or null" where the schema allows it, for a whole key."""
    model = _model_at(root, tree, path[:-1]) if path and isinstance(path[-1], str) else None
    field = model.model_fields.get(str(path[-1])) if model else None
    return " or null" if field and type(None) in get_args(field.annotation) else ""


def _shown(node: Tree) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "null"
    return f'"{node.value}"' if isinstance(node.value, str) else node.text


def _missing(root: Root, tree: Tree, path: Path) -> Finding:
    parent, key = path[:-1], path[-1]
    model = _model_at(root, tree, parent)
    assert model is not None
    help_text = model.model_fields[str(key)].description or ""
    place = f"under '{_dotted(parent)}'" if parent else "at the top level"
    meaning = f" ({help_text.rstrip('.')})" if help_text else ""
    message = f"missing; add '{key}' {place}{meaning}"
    return Finding(origin=_at(tree, parent).origin, key=_dotted(path), message=message)


def _unknown_key(root: Root, tree: Tree, path: Path) -> str:
    key, model = str(path[-1]), _model_at(root, tree, path[:-1])
    assert model is not None
    known = list(model.model_fields)
    close = did_you_mean(key, known)
    if close:
        return f"unknown key{close}"
    elsewhere = _places_of(root, tree, key)
    if elsewhere:
        return f"unknown key here; it belongs {elsewhere[0]}"
    return f"unknown key (the keys here: {', '.join(known)})"


def _places_of(root: Root, tree: Tree, key: str) -> list[str]:
    """The parts of this file that have such a key, in words."""
    if key in root.model_fields:
        return ["at the top level"]
    models = {name: _model_at(root, tree, (name,)) for name in root.model_fields}
    return [f"under '{name}'" for name, model in models.items() if model and key in model.model_fields]


def _wrong_component(root: Root, tree: Tree, path: Path) -> tuple[Path, Tree, str]:
    """The sentence for a component whose ``name`` is missing, unknown or not text."""
    node = _at(tree, path)
    names = [name for name in _choices_at(root, tree, path) if name]
    kind = str(next(key for key in reversed(path) if isinstance(key, str))).removesuffix("s")
    one_of = f"(one of: {', '.join(names)})"
    if not isinstance(node.value, dict):
        example = f"{{name: {node.value if node.value in names else names[0]}}}"
        return path, node, f"must be a mapping such as {example}, not {_shown(node)} {one_of}"
    name = node.value.get("name")
    if name is None:
        return (*path, "name"), node, f"missing; name the {kind} {one_of}"
    if name.value is None:
        return (*path, "name"), name, f"must be the name of the {kind}, not null {one_of}"
    text = name.text or str(name.value)
    return (*path, "name"), name, f"unknown {kind} '{text}'{did_you_mean(text, names)} {one_of}"


def _path_of(root: Root, tree: Tree, loc: tuple[int | str, ...], kind: str) -> Path:
    """pydantic's ``loc`` without its additions to the user's keys: tags of components, types of unions."""
    path: list[str | int] = []
    rest = list(loc)
    while rest:
        node = _at(tree, tuple(path))
        if isinstance(node.value, dict):
            if rest[0] in _choices_at(root, tree, tuple(path)):
                rest.pop(0)
                if not rest:
                    break
            if rest[0] in node.value or (kind == "missing" and len(rest) == 1):
                path.append(rest[0])
        elif isinstance(node.value, list):
            if isinstance(rest[0], int):
                path.append(rest[0])
        else:
            break
        rest.pop(0)
    return tuple(path)


def _at(tree: Tree, path: Path) -> Tree:
    """The tree at ``path``; the deepest that there is if the path's end is missing."""
    for key in path:
        if isinstance(tree.value, dict) and key in tree.value:
            tree = tree.value[str(key)]
        elif isinstance(tree.value, list) and isinstance(key, int) and key < len(tree.value):
            tree = tree.value[key]
        else:
            break
    return tree


def _model_at(root: Root, tree: Tree, path: Path) -> type[Config] | None:
    """The Config that the schema puts at ``path``; None for a scalar or an unknown component."""
    choices = _choices_at(root, tree, path)
    if None in choices:
        return choices[None]
    node = _at(tree, path)
    name = node.value.get("name") if isinstance(node.value, dict) else None
    text = name.text if name else _probe_of_protocol(node)
    for tag, model in choices.items():
        if tag and (text == tag or (tag.endswith("/") and text.startswith(tag))):
            return model
    return None


def _probe_of_protocol(node: Tree) -> str:
    """The name of the probe that a ``protocol`` in its place names; empty where there is none."""
    named = node.value.get("protocol") if isinstance(node.value, dict) else None
    protocol = PROTOCOLS.get(named.text) if named else None
    return str(protocol.settings["name"]) if protocol else ""


def _choices_at(root: Root, tree: Tree, path: Path) -> dict[str | None, type[Config]]:
    """The components that may stand at ``path``, by name; under None the Config where there is no choice."""
    keys = [i for i, key in enumerate(path) if isinstance(key, str)]
    if not keys:
        return {None: root}
    last = keys[-1]
    model = _model_at(root, tree, path[:last])
    field = model.model_fields.get(str(path[last])) if model else None
    return configs_in(field.annotation) if field else {}


def configs_in(annotation: Any) -> dict[str | None, type[Config]]:
    """The Configs that an annotation allows, by the name that chooses among them; under None where there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return {None: annotation}
    found: dict[str | None, type[Config]] = {}
    for argument in get_args(annotation):
        found |= configs_in(argument)
    if get_origin(annotation) is Annotated and None in found:
        tags = [extra.tag for extra in get_args(annotation)[1:] if isinstance(extra, Tag)]
        if tags:
            return {tags[0]: found[None]}
    return found


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
