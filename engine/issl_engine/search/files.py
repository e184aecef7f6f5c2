"""The files of a search: all trials as CSV, the chosen recipe, and a picture."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from issl_engine.layout import CHOSEN, FIGURE, TRIALS
from issl_engine.search.chosen import chosen_recipe
from issl_engine.search.figure import draw_figure
from issl_engine.search.plan import SearchPlan
from issl_engine.search.ranking import ArmResult, Tried, edges_of, results_in, values_of
from issl_engine.whole_file import write_whole

COLUMNS = (
    "recipe", "arm", "objective", "trial", "rank", "status", "probe", "metric", "value", "interval_low",
    "interval_high", "seeds", "values", "held_out_images", "settings", "at_edge", "reason", "epochs", "minutes",
    "device", "commit", "date", "command",
)  # fmt: skip
"""Before the searched keys, of which each has a column."""


def write_files(out: Path, plan: SearchPlan, command: str) -> None:
    """Everything that follows from the trials done so far. Raises OSError."""
    write_trials(out, plan, command)
    results = results_in(out, plan)
    if results:
        write_whole(out / CHOSEN, chosen_recipe(plan, results, command))
        draw_figure(out / FIGURE, results)


def write_trials(out: Path, plan: SearchPlan, command: str) -> None:
    """search.csv: a line a trial. Raises OSError."""
    results = results_in(out, plan)
    keys = list(dict.fromkeys(axis.key for result in results for axis in result.axes))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, *keys])
    writer.writeheader()
    for result in results:
        for place, tried in enumerate(result.ranked, start=1):
            writer.writerow(_line(result, tried, place, plan, command))
    write_whole(out / TRIALS, text.getvalue())


def _line(result: ArmResult, tried: Tried, place: int, plan: SearchPlan, command: str) -> dict[str, Any]:
    trial, outcome = tried.trial, tried.outcome
    values = values_of(trial, result.axes)
    low, high = (outcome.score and outcome.score.ends) or (None, None)
    return {
        "recipe": trial.recipe.name,
        "arm": result.arm,
        "objective": trial.recipe.objective.name,
        "trial": trial.number,
        "rank": place,
        "status": "failed" if outcome.reason else "finished",
        "probe": outcome.probe,
        "metric": outcome.metric,
        "value": _rounded(outcome.mean),
        "interval_low": _rounded(low),
        "interval_high": _rounded(high),
        "seeds": json.dumps(list(plan.seeds)),
        "values": json.dumps([round(value, 4) for value in outcome.values.values()]),
        "held_out_images": outcome.num_images,
        "settings": json.dumps(dict(trial.settings)),
        "at_edge": json.dumps(edges_of(trial, result.axes)),
        "reason": outcome.reason,
        "epochs": trial.recipe.training.epochs,
        "minutes": round(outcome.minutes, 3),
        "device": outcome.device,
        "commit": outcome.commit,
        "date": outcome.date,
        "command": command,
        **{key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in values.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
