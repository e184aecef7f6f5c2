"""The chosen recipe: the user's text with the chosen settings written into its arms, or the whole recipe anew."""

import tempfile
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from issl_engine.environment import collect_environment
from issl_engine.recipe.edit import CannotEdit, changed_keys, set_key
from issl_engine.recipe.load import RecipeError, load_recipe
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.recipe.show import render_file
from issl_engine.recipe.tree import compose
from issl_engine.search.plan import SearchPlan
from issl_engine.search.ranking import ArmResult
from issl_engine.search.words import at_edges, fairness

WIDTH = 118
WHOLE = ("name", "description", "seeds", "controls")
"""Keys that all arms share by themselves, so that an arm cannot hold them."""


def chosen_recipe(plan: SearchPlan, results: Sequence[ArmResult], command: str) -> str:
    """A complete recipe for ``issl-engine run``, named after the user's with ``_chosen``, so that it gets a folder of
    its own. Arms that were not searched stay as they are."""
    best = {result.arm: result.chosen.trial.recipe for result in results}
    arms = {
        arm: recipe.model_copy(update={"name": f"{recipe.name}_chosen"})
        for arm, recipe in {arm: best.get(arm, own) for arm, own in plan.file.arms.items()}.items()
    }
    file = plan.file.model_copy(update={"arms": arms})
    return _header(plan, results, command) + (_edited(file) or render_file(file))


def _header(plan: SearchPlan, results: Sequence[ArmResult], command: str) -> str:
    first = next(iter(plan.file.arms.values()))
    commit = next((one.outcome.commit for result in results for one in result.ranked if one.outcome.commit), None)
    commit = commit or collect_environment().get("commit") or "unknown"
    lines = [
        f"{first.name} with the settings that a search chose for each arm, equally many trials each.",
        f"Search: {command or 'issl-engine search'}; commit {commit}; {datetime.now(UTC).date().isoformat()}; search "
        f"seed {plan.search_seed}.",
        *(f"{line[0].upper()}{line[1:]}." for line in fairness(plan, results)),
    ]
    for result in results:
        ranges = "; ".join(f"{axis.key} {axis.range.describe()}" for axis in result.axes)
        number, score = result.chosen.trial.number, result.chosen.outcome.score
        scored = "failed" if score is None else score.text(result.chosen.outcome.column.digits)
        failed = sum(one.outcome.reason is not None for one in result.ranked)
        lines.append(
            f"{result.arm}: {'the given settings (trial 0)' if number == 0 else f'trial {number}'}, {scored} held out; "
            f"{len(result.ranked)} trials, {failed} failed; ranges {ranges}; at an edge: {at_edges(result)}."
        )
    lines.append("What stood above the recipe before the search follows; its figures are not those of these settings.")
    wrapped = [part for line in lines for part in textwrap.wrap(line, WIDTH, break_on_hyphens=False)]
    return "".join(f"# {line}\n" for line in wrapped) + "\n"


def _edited(file: RecipeFile) -> str | None:
    """The user's text with the keys that differ; None where that does not give these very recipes."""
    try:
        before = _loaded(file.text)
        text = _with_changes(file.text, before, file.arms)
        return text if _loaded(text) == file.arms else None
    except (CannotEdit, RecipeError, yaml.YAMLError):
        return None


def _with_changes(text: str, before: dict[str, Recipe], after: dict[str, Recipe]) -> str:
    root = compose(text)
    has_arms = isinstance(root, yaml.MappingNode) and any(key.value == "arms" for key, _ in root.value)
    changes: dict[tuple[str, ...], Any] = {}
    for arm, recipe in after.items():
        found = changed_keys(before[arm].model_dump(mode="json"), recipe.model_dump(mode="json"))
        for keys, value in found.items():
            changes[("arms", arm, *keys) if has_arms and keys[0] not in WHOLE else keys] = value
    for keys, value in changes.items():
        text = set_key(text, keys, value)
    return text


def _loaded(text: str) -> dict[str, Recipe]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path).arms
