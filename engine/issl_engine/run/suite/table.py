"""A suite's results on the terminal."""

import re
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from issl_engine.probing.probes.base import ProbeResult, Value
from issl_engine.run.suite.run import SuiteOutcome

COLUMNS: dict[str, Literal["left", "right"]] = {
    "probe": "left",
    "protocol": "left",
    "network": "left",
    "setting": "left",
    "metric": "left",
    "value": "right",
    "95 %": "right",
    "held out": "right",
    "chosen": "left",
    "n": "right",
}
"""Title → how it is aligned; 95 % are the ends of the interval, n the images judged. Empty ones are left out."""
OTHERS_WIDTH = 72
"""Characters that the columns beside "chosen" take at most, where no word is cut."""
UNITS = {"top1": "%", "mean_corruption_error": "%", "relative_drop": "%"}
"""Metric → unit behind its number, where it has one."""


def print_suite(outcome: SuiteOutcome, title: str, console: Console | None = None) -> None:
    """One line a result, then what all share, and which sources were left out and why."""
    console = console or Console()
    rows = _without_repeats([_cells(result) for result in outcome.results])
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    empty = {column for column in COLUMNS if not any(row[column] for row in rows)}
    shown = [column for column in COLUMNS if column not in empty]
    for column in shown:
        longest_word = max(len(word) for row in rows for word in row[column].split() or [""])
        table.add_column(
            column,
            justify=COLUMNS[column],
            no_wrap=COLUMNS[column] == "right",
            min_width=None if column == "chosen" else longest_word,
            max_width=max(8, console.width - OTHERS_WIDTH) if column == "chosen" else None,
            overflow="fold",
        )
    groups = [re.sub(r" \d$", "", result.setting) for result in outcome.results]  # all strengths of a corruption
    for index, row in enumerate(rows):
        last_of_group = index + 1 < len(groups) and groups[index + 1] != groups[index]
        table.add_row(*(row[column] for column in shown), end_section=last_of_group)
    console.print(table)
    splits = dict.fromkeys(result.split for result in outcome.results)
    console.print(f"n images judged, of the split: {', '.join(splits)}", highlight=False)
    for text in dict.fromkeys(result.preprocessing.partition(";")[0] for result in outcome.results):
        console.print(f"preprocessing: {text}", highlight=False, soft_wrap=True)
    for text in dict.fromkeys(f"{result.protocol or result.probe}: {result.grid}" for result in outcome.results):
        console.print(f"grid of {text}", highlight=False, soft_wrap=True)
    for setting, reason in outcome.left_out.items():
        console.print(f"left out: {setting} ({reason})", highlight=False, soft_wrap=True)


def _without_repeats(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """What a probe chose is shown once where the probe is judged many times."""
    seen: set[tuple[str, str, str, str]] = set()
    shown = []
    for row in rows:
        choice = (row["probe"], row["protocol"], row["network"], row["chosen"])
        shown.append(row | {"chosen": "″"} if choice in seen and row["chosen"] else row)
        seen.add(choice)
    return shown


def _cells(result: ProbeResult) -> dict[str, str]:
    """Column → text."""
    unit = UNITS.get(result.metric, "")
    low, high = result.interval or (0.0, 0.0)
    return {
        "probe": result.probe.replace("_", " "),
        "protocol": result.protocol,
        "network": result.network,
        "setting": result.setting.replace("_", " "),
        "metric": f"{result.metric.replace('_', ' ')} {unit}".rstrip(),
        "value": f"{result.value:.2f}",
        "95 %": f"{low:.1f}–{high:.1f}" if result.interval else "",
        "held out": "" if result.held_out_value is None else f"{result.held_out_value:.2f}",
        "chosen": ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in result.chosen.items()),
        "n": str(result.num_split_images),
    }


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
