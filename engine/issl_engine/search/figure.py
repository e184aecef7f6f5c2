"""A picture of a search: the score against each searched key, a row an arm. What does not matter looks flat."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from issl_engine.ranges import LogUniform
from issl_engine.search.ranking import ArmResult, values_of
from issl_engine.search.table import shortened, shown
from issl_engine.whole_file import write_whole

WIDTH, HEIGHT = 2.3, 2.0
"""Of one panel, in inches."""


def draw_figure(path: Path, results: Sequence[ArmResult]) -> None:
    """Writes an SVG. The chosen trial is filled; the recipe's own setting is a square; failed trials are left out."""
    columns = max(len(result.axes) for result in results)
    figure = Figure(figsize=(WIDTH * max(columns, 1) + 0.6, HEIGHT * len(results)), layout="constrained")
    panels = figure.subplots(len(results), max(columns, 1), squeeze=False, sharey="row")
    for row, result in zip(panels, results, strict=True):
        done = [one for one in result.ranked if one.outcome.mean is not None]
        for panel, axis in zip(row, result.axes, strict=False):
            values = [values_of(one.trial, result.axes)[axis.key] for one in done]
            places = _places(values)
            if isinstance(axis.range, LogUniform) and all(isinstance(value, int | float) for value in values):
                panel.set_xscale("log")
                panel.minorticks_off()
                ticks = [axis.range.low, (axis.range.low * axis.range.high) ** 0.5, axis.range.high]
                panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            for place, one in zip(places, done, strict=True):
                is_chosen = one is result.chosen
                panel.plot(
                    [place], [one.outcome.mean], marker="s" if one.trial.number == 0 else "o", markersize=5,
                    color="tab:red" if is_chosen else "tab:blue", fillstyle="full" if is_chosen else "none",
                )  # fmt: skip
            if places is not values:
                names = list(dict.fromkeys(map(shown, values)))
                panel.set_xticks(range(len(names)), names, fontsize=7)
            panel.set_xlabel(shortened(axis.key), fontsize=8)
            panel.tick_params(labelsize=7)
        for panel in row[len(result.axes) :]:
            panel.set_visible(False)
        title = done[0].outcome.column.title if done else ""
        row[0].set_ylabel(f"{result.arm}\n{title}", fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    write_whole(path, drawn.getvalue())


def _places(values: list[Any]) -> list[Any]:
    """Numbers as they are; anything else by its place among the different ones."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values
    names = list(dict.fromkeys(map(shown, values)))
    return [names.index(shown(value)) for value in values]
