"""What a search will do: for each arm its axes and trials; and the record that a later call is compared with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issl_engine.layout import SEARCH
from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.run.kept import first_difference, write_json
from issl_engine.run.resume import fixed_keys
from issl_engine.search.axes import Axis, axes_of, shared_keys
from issl_engine.search.design import Trial, draw_trials
from issl_engine.search.trial_run import judged_on_held_out

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """``file`` is the user's recipe with overrides, all arms; ``seeds`` are those of every trial."""

    file: RecipeFile
    seeds: tuple[int, ...]
    num_trials: int
    search_seed: int
    axes: Mapping[str, Sequence[Axis]]
    """Arm → what is varied in it, for all arms of the file."""
    trials: Mapping[str, Sequence[Trial]]
    """Arm → its trials, for all arms of the file."""

    def recipe_of(self, trial: Trial) -> Recipe:
        """The recipe that the trial runs."""
        return judged_on_held_out(trial.recipe.model_copy(update={"seeds": self.seeds}))

    def ranges(self, arm: str) -> dict[str, str]:
        """Key → its range, in words."""
        return {axis.key: axis.range.describe() for axis in self.axes[arm]}


def plan_search(file: RecipeFile, *, num_trials: int, seeds: Sequence[int] | None, search_seed: int) -> SearchPlan:
    """Draws the trials of all arms. Raises Mistake for ranges and settings that do not fit, and for equal seeds."""
    first = next(iter(file.arms.values()))
    chosen = tuple(first.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen):
        raise Mistake(f"--seeds must differ, not {','.join(map(str, chosen))}")
    axes = {arm: axes_of(recipe, arm) for arm, recipe in file.arms.items()}
    if not any(axes.values()):
        raise Mistake(f"recipe '{first.name}' leaves nothing to search; give ranges under search.ranges")
    shared = shared_keys(file.arms.items())
    trials = {
        arm: draw_trials(arm, recipe, axes[arm], shared=shared, num_trials=num_trials, search_seed=search_seed)
        for arm, recipe in file.arms.items()
    }
    return SearchPlan(
        file=file, seeds=chosen, num_trials=num_trials, search_seed=search_seed, axes=axes, trials=trials
    )  # fmt: skip


def check_record(out: Path, plan: SearchPlan) -> None:
    """Refuses to mix two searches in one folder: other ranges, or another recipe. Seeds and trials may be added.

    Raises Mistake.
    """
    try:
        earlier = json.loads((out / SEARCH).read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        raise Mistake(f"{out / SEARCH}: the file is damaged; choose another --out, or delete it") from None
    difference = first_difference(_compared(earlier), _compared(json.loads(json.dumps(_record(plan)))))
    if difference:
        raise Mistake(
            f"{out}: this folder holds another search ({difference}); choose another --out, or put the key back"
        )


def write_record(out: Path, plan: SearchPlan, command: str) -> None:
    """Raises OSError."""
    write_json(out / SEARCH, _record(plan) | {"trials": plan.num_trials, "seeds": list(plan.seeds), "command": command})


def _record(plan: SearchPlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "search_seed": plan.search_seed,
        "arms": {
            arm: {"ranges": plan.ranges(arm), "recipe": fixed_keys(recipe.model_dump(mode="json"))}
            for arm, recipe in plan.file.arms.items()
        },
    }


def _compared(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("format", "search_seed", "arms")}
