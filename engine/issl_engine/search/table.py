"""The trials of a search on the terminal, and as JSON."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_engine.layout import CHOSEN, FIGURE, TRIALS
from issl_engine.search.plan import SearchPlan
from issl_engine.search.ranking import ArmResult, Tried, edges_of, results_in, values_of
from issl_engine.search.words import at_edges, fairness

WIDTH = 160
"""Of what is not shown on a terminal, in characters."""


def print_results(out: Path, plan: SearchPlan, *, as_json: bool = False) -> None:
    """What is done in ``out``, on stdout."""
    results = results_in(out, plan)
    if as_json:
        print(json.dumps([_as_json(result) for result in results], indent=1))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for result in results:
        console.print(_table(result))
        for one in result.ranked:
            if one.outcome.reason is not None:
                console.print(f"trial {one.trial.number} failed: {one.outcome.reason}", highlight=False, soft_wrap=True)
        chosen = result.chosen
        what = "the recipe's own settings" if chosen.trial.number == 0 else f"trial {chosen.trial.number}"
        console.print(f"chosen: {what}; at an edge of its range: {at_edges(result)}\n", highlight=False, soft_wrap=True)
    for line in fairness(plan, results):
        console.print(line, highlight=False, soft_wrap=True)
    for title, name in (("trials", TRIALS), ("picture", FIGURE), ("chosen", CHOSEN)):
        console.print(f"{title + ':':9}{out / name}", highlight=False, soft_wrap=True)


def _table(result: ArmResult) -> Table:
    score = next((one.outcome.column.title for one in result.ranked if one.outcome.score), "score")
    table = Table(title=result.arm, title_justify="left")
    titles = ["trial", score, *(shortened(axis.key) for axis in result.axes), "minutes"]
    rows = [_cells(result, tried) for tried in result.ranked]
    for title, *cells in zip(titles, *rows, strict=True):
        widest = max(map(len, cells))  # a title may be folded, a number may not
        table.add_column(title, justify="right", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(result: ArmResult, tried: Tried) -> list[str]:
    outcome, edges = tried.outcome, edges_of(tried.trial, result.axes)
    score = "failed" if outcome.score is None else outcome.score.text(outcome.column.digits)
    values = values_of(tried.trial, result.axes)
    marks = {"low": " <", "high": " >", "outside": " !"}
    return [
        str(tried.trial.number),
        score,
        *(shown(values[axis.key]) + (marks[edges[axis.key]] if axis.key in edges else "") for axis in result.axes),
        f"{outcome.minutes:.1f}",
    ]


def shortened(key: str) -> str:
    """A key as a table's title: an objective's without its part's name."""
    return key.removeprefix("objective.").removeprefix("optimizer.").removeprefix("training.")


def shown(value: Any) -> str:
    """A setting in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items()) or "–"
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _as_json(result: ArmResult) -> dict[str, Any]:
    return {
        "arm": result.arm,
        "chosen": result.chosen.trial.number,
        "edges": result.edges,
        "ranges": {axis.key: axis.range.describe() for axis in result.axes},
        "trials": [
            {
                "trial": one.trial.number,
                "settings": values_of(one.trial, result.axes),
                "value": one.outcome.mean,
                "values": dict(one.outcome.values),
                "reason": one.outcome.reason,
                "minutes": one.outcome.minutes,
            }
            for one in result.ranked
        ],
    }
