"""Recipe file → RecipeFile: arms laid over the shared part, overrides over both, all mistakes at once.

Suites of probes and experiments are read in the same way, without arms.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from issl_engine.mistakes import Mistake, did_you_mean
from issl_engine.recipe.check import ConfigT, check_config, check_recipe
from issl_engine.recipe.locate import RecipeError, locate, locate_suite
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.recipe.search_keys import check_search_keys
from issl_engine.recipe.show import render
from issl_engine.recipe.suite import Suite
from issl_engine.recipe.tree import Finding, Origin, Tree, merge, parse, set_value

__all__ = ["RecipeError", "change_recipe", "is_experiment", "load_config", "load_recipe", "load_suite"]

COMMAND_LINE = Origin(where="command line")
WHOLE = frozenset({"name", "description", "seeds", "controls"})
"""Keys in which arms cannot differ."""
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Override:
    """``arms.<arm>.key.path=value`` or ``key.path=value`` (``arm`` None: every arm)."""

    arm: str | None
    keys: tuple[str, ...]
    value: Tree


def load_recipe(
    path_or_name: str | Path, overrides: Sequence[str] = (), arms: Sequence[str] | None = None
) -> RecipeFile:
    """Reads a recipe file or packaged recipe.

    ``overrides`` are ``key.path=value``: the value is YAML, a number in the path is a place in a list, and
    ``arms.<arm>.`` in front makes it that arm's alone. They apply from left to right, but names of components
    first. ``arms`` keeps only these arms. Raises RecipeError, with one line for each mistake in the file and
    on the command line.
    """
    path = locate(path_or_name)
    text, tree, mistakes = _read_mapping(path, "recipe")
    _refuse_experiment(tree, path_or_name)
    parts, arm_mistakes = _split_arms(tree)
    mistakes += arm_mistakes
    chosen, choice_mistakes = _choose(parts, arms)
    mistakes += choice_mistakes
    parsed, override_mistakes = _parse_overrides(overrides, parts)
    mistakes += override_mistakes
    recipes: dict[str, Recipe] = {}
    findings: dict[str, list[Finding]] = {}
    for name in chosen:
        final, failures = _apply(parts[name], [item for item in parsed if item.arm in (None, name)])
        mistakes += failures
        recipe, findings[name] = check_recipe(final)
        if recipe is not None:
            findings[name] += check_search_keys(final, recipe)
            recipes[name or recipe.objective.name] = recipe
    mistakes += _merge_findings(findings)
    if mistakes:
        raise RecipeError(*_sorted(mistakes))
    return RecipeFile(path=path, text=text, overrides=tuple(overrides), arms=recipes)


def change_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe that is already resolved (a checkpoint's), with overrides laid over. Raises RecipeError."""
    tree, _ = parse(render(recipe, commented=False), f"recipe '{recipe.name}'", with_lines=False)
    assert tree is not None
    parsed, mistakes = _parse_overrides(overrides, {"": tree})
    tree, failures = _apply(tree, parsed)
    changed, found = check_recipe(tree)
    if changed is None or mistakes or failures:
        raise RecipeError(*_sorted([*mistakes, *failures, *found]))
    return changed


def load_suite(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite file or packaged suite, with overrides of its own keys laid over (``fine_tuning.epochs=5``).

    Raises RecipeError, with one line for each mistake in the file and on the command line.
    """
    try:
        return _load(Suite, locate_suite(path_or_name), "suite", overrides)[0]
    except RecipeError as error:
        raise RecipeError(*(_as_written(mistake) for mistake in error.mistakes)) from None


def load_config(schema: type[ConfigT], path_or_name: str | Path, overrides: Sequence[str] = ()) -> tuple[ConfigT, str]:
    """A file of another schema, without arms, and its text. Finds, overrides and complains as load_recipe does."""
    return _load(schema, locate(path_or_name), "recipe", overrides)


def _load(schema: type[ConfigT], path: Path, kind: str, overrides: Sequence[str]) -> tuple[ConfigT, str]:
    text, tree, mistakes = _read_mapping(path, kind)
    parsed, override_mistakes = _parse_overrides(overrides, {"": tree})
    tree, failures = _apply(tree, parsed)
    loaded, found = check_config(tree, schema)
    mistakes = [*mistakes, *override_mistakes, *failures, *found]
    if loaded is None or mistakes:
        raise RecipeError(*_sorted(mistakes))
    return loaded, text


def is_experiment(path_or_name: str | Path) -> bool:
    """Whether the file is an experiment of ``issl-engine theory run``. Raises RecipeError as load_recipe does."""
    _, tree, _ = _read_mapping(locate(path_or_name), "recipe")
    assert isinstance(tree.value, dict)
    return "experiment" in tree.value


def _refuse_experiment(tree: Tree, path_or_name: str | Path) -> None:
    assert isinstance(tree.value, dict)
    if "experiment" in tree.value:
        message = f"this is an experiment, not a recipe; run it with 'issl-engine theory run {path_or_name}'"
        raise RecipeError(Finding(origin=tree.value["experiment"].origin, key="experiment", message=message))


def _as_written(mistake: Finding) -> Finding:
    """The mistake with the key as the command line has it, where a suite's keys begin with ``suite.``."""
    return replace(mistake, key=f"suite.{mistake.key}") if mistake.key and mistake.origin == COMMAND_LINE else mistake


def _read_mapping(path: Path, kind: str) -> tuple[str, Tree, list[Finding]]:
    """The file's text, its keys, and the mistakes in its YAML. Raises RecipeError where there are no keys."""
    source = _shown(path)
    text = _read(path, source)
    tree, mistakes = parse(text, source)
    if tree is None or not isinstance(tree.value, dict):
        raise RecipeError(*(mistakes or [_not_a_mapping(tree, source, kind)]))
    return text, tree, mistakes


def _shown(path: Path) -> str:
    """How messages name the file: relative to the working folder if it lies below it."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


def _read(path: Path, source: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        message = "this is not UTF-8 text; save the recipe as UTF-8"
        raise RecipeError(Finding(origin=Origin(where=f"{source}:{line}"), key="", message=message)) from error
    except OSError as error:
        message = f"the file cannot be read ({error.strerror})"
        raise RecipeError(Finding(origin=Origin(where=source), key="", message=message)) from error


def _not_a_mapping(tree: Tree | None, source: str, kind: str) -> Finding:
    if tree is None:
        message = f"the file is empty; a {kind} is a mapping of keys"
        return Finding(origin=Origin(where=f"{source}:1"), key="", message=message)
    found = "a list" if isinstance(tree.value, list) else "one word or number"
    return Finding(origin=tree.origin, key="", message=f"a {kind} is a mapping of keys, not {found}")


def _split_arms(tree: Tree) -> tuple[dict[str, Tree], list[Finding]]:
    """Arm name → shared part with the arm's part over it; '' names the one arm of a file without arms."""
    assert isinstance(tree.value, dict)
    shared = replace(tree, value={key: child for key, child in tree.value.items() if key != "arms"})
    arms = tree.value.get("arms")
    if arms is None:
        return {"": shared}, []
    if not isinstance(arms.value, dict) or not arms.value:
        message = "must be a mapping of arm names to the keys in which each arm differs; add one or remove 'arms'"
        return {}, [Finding(origin=arms.origin, key="arms", message=message)]
    parts: dict[str, Tree] = {}
    mistakes: list[Finding] = []
    for name, part in arms.value.items():
        if not ARM_NAME.fullmatch(name):
            message = "an arm's name is a folder's name too: letters, digits, '_' and '-' only"
            mistakes.append(Finding(origin=part.origin, key=f"arms.{name}", message=message))
        elif part.value is None:
            parts[name] = shared
        elif not isinstance(part.value, dict):
            message = "must be a mapping of the keys in which this arm differs, or empty"
            mistakes.append(Finding(origin=part.origin, key=f"arms.{name}", message=message))
        else:
            mistakes += [_whole_recipes(key, child.in_arm(name)) for key, child in part.value.items() if key in WHOLE]
            parts[name] = merge(shared, part.in_arm(name), named=False)
    return parts, mistakes


def _whole_recipes(key: str, value: Tree) -> Finding:
    message = "this holds for the whole recipe, so no arm has its own; give it at the top level"
    return Finding(origin=value.origin, key=key, message=message)


def _choose(parts: dict[str, Tree], wanted: Sequence[str] | None) -> tuple[list[str], list[Finding]]:
    if wanted is None or list(parts) == [""]:
        names = [] if wanted is None else [_objective_name(parts[""])]
        return list(parts), _unknown_arms(wanted or (), names)
    return [name for name in parts if name in wanted], _unknown_arms(wanted, parts)


def _objective_name(tree: Tree) -> str:
    objective = tree.value.get("objective") if isinstance(tree.value, dict) else None
    name = objective.value.get("name") if objective and isinstance(objective.value, dict) else None
    return str(name.value) if name else ""


def _unknown_arms(wanted: Sequence[str], known: Sequence[str] | dict[str, Tree]) -> list[Finding]:
    return [
        Finding(origin=COMMAND_LINE, key="", message=_no_such_arm(name, list(known)))
        for name in wanted
        if name not in known
    ]


def _no_such_arm(name: str, known: list[str]) -> str:
    if not known:
        return f"there is no arm '{name}'"
    if known == [""]:
        return f"the recipe has no arms, so none is called '{name}'"
    return f"the recipe has no arm '{name}'{did_you_mean(name, known)} (its arms: {', '.join(known)})"


def _parse_overrides(overrides: Sequence[str], parts: dict[str, Tree]) -> tuple[list[Override], list[Finding]]:
    parsed: list[Override] = []
    mistakes: list[Finding] = []
    for text in overrides:
        path, equals, value_text = text.partition("=")
        keys = tuple(part.strip() for part in path.split("."))
        if not equals or not all(keys):
            message = f"'{text}' is not an override; write key.path=value, such as training.epochs=2"
            mistakes.append(Finding(origin=COMMAND_LINE, key="", message=message))
            continue
        arm: str | None = None
        if keys[0] == "arms":
            if len(keys) < 3:
                message = "an arm's override names a key of it: arms.<arm>.key.path=value"
                mistakes.append(Finding(origin=COMMAND_LINE, key=path, message=message))
                continue
            arm, keys = keys[1], keys[2:]
            if arm in parts and keys[0] in WHOLE:
                mistakes.append(_whole_recipes(keys[0], Tree(value=None, origin=replace(COMMAND_LINE, arm=arm))))
                continue
            if arm not in parts:
                mistakes.append(Finding(origin=COMMAND_LINE, key=path, message=_no_such_arm(arm, list(parts))))
                continue
        value, value_mistakes = parse(value_text, COMMAND_LINE.where, with_lines=False)
        mistakes += [replace(item, key=path) for item in value_mistakes]
        if not value_mistakes:
            value = value or Tree(value=None, origin=COMMAND_LINE)
            parsed.append(Override(arm=arm, keys=keys, value=value.in_arm(arm) if arm else value))
    return sorted(parsed, key=lambda item: item.keys[-1] != "name"), mistakes


def _apply(tree: Tree, overrides: list[Override]) -> tuple[Tree, list[Finding]]:
    mistakes: list[Finding] = []
    for item in overrides:
        try:
            tree = set_value(tree, item.keys, item.value)
        except Mistake as error:
            origin = replace(COMMAND_LINE, arm=item.arm)
            mistakes.append(Finding(origin=origin, key=".".join(item.keys), message=str(error)))
    return tree, mistakes


def _merge_findings(findings: dict[str, list[Finding]]) -> list[Finding]:
    """One mistake for all arms that share it; names the arms if a shared value is wrong in some only."""
    arms_of: dict[Finding, list[str]] = {}
    for arm, found in findings.items():
        for mistake in found:
            arms_of.setdefault(mistake, []).append(arm)
    mistakes = []
    for mistake, arms in arms_of.items():
        if mistake.origin.arm is None and len(arms) < len(findings):
            mistake = replace(mistake, message=f"{mistake.message} (in arm {', '.join(arms)})")
        mistakes.append(mistake)
    return mistakes


def _sorted(mistakes: list[Finding]) -> list[Finding]:
    """The mistakes without repeats, in the order of the file; those of the command line are last."""

    def place(mistake: Finding) -> tuple[bool, int]:
        line = mistake.origin.where.rpartition(":")[2]
        return mistake.origin.where == COMMAND_LINE.where, int(line) if line.isdecimal() else 0

    return sorted(dict.fromkeys(mistakes), key=place)
