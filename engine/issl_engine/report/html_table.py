"""Tables of the page: readable as they are; the page's script makes them sortable by each cell's ``data-sort``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from issl_engine.layout import UNTRAINED
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.diagnostics_file import Diagnostics
from issl_engine.report.differences import Difference, all_differences
from issl_engine.report.recipe_diff import differing_keys
from issl_engine.report.run_folder import ArmRuns, Run
from issl_engine.report.statistics import Summary
from issl_engine.report.table import best_row, gain_of

NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text, the number to sort by (None: by the text), and what pointing at it says."""

    text: str
    number: float | None = None
    note: str = ""
    best: bool = False


def results_table(run: Run) -> str:
    """One row per arm and control, one column per probe and setting; the best mean of the arms is marked."""
    columns = run.columns
    with_run = len(run.each) > 1
    with_objective = any(not arm.name.endswith(arm.objective or "") for arm in run.arms)
    titles = ["arm", *(["run"] if with_run else []), *(["objective"] if with_objective else [])]
    titles += [*(column.title for column in columns), "over untrained", "final loss", "images/s", "minutes"]
    best = [best_row(run, column) for column in columns]
    rows = []
    for index, row in enumerate(run.rows):
        cells = [Cell(text=row.name), *([Cell(text=row.run)] if with_run else [])]
        cells += [Cell(text=row.objective or NOTHING)] if with_objective else []
        for column, winner in zip(columns, best, strict=True):
            by_seed = [
                f"seed {seed.seed}: {result.value:.2f}{_gap(result)}"
                for seed in row.seeds
                for result in seed.probes
                if column.holds(result)
            ]
            cells.append(_score(row.score(column), column.digits, "; ".join(by_seed), best=winner == index))
        rows.append([*cells, *_training_cells(row, run)])
    return _table(titles, rows, num_arms=len(run.arms), name="results")


def _gap(result: ProbeResult) -> str:
    """How near the fit is to its optimum, where that is known."""
    return "" if result.optimality_gap is None else f" (duality gap {result.optimality_gap:.1e} nats)"


def _score(score: Summary | None, digits: int, note: str, *, best: bool) -> Cell:
    if score is None:
        return Cell(text=NOTHING)
    return Cell(text=score.text(digits), number=score.mean, note=note, best=best)


def _training_cells(row: ArmRuns, run: Run) -> list[Cell]:
    gain, loss, seconds = gain_of(row, run), row.metric("loss"), row.metric("seconds")
    return [
        Cell(text=NOTHING)
        if gain is None or gain.summary is None
        else Cell(text=gain.text, number=gain.summary.mean, note=_own_untrained(row, run)),
        _number(loss.mean if loss else None, "{:.3f}"),
        _number(row.images_per_second, "{:.0f}"),
        _number(seconds.mean / 60 if seconds else None, "{:.1f}"),
    ]


def differences_table(run: Run) -> str:
    """One row per pair of arms, one column per plain probe: the first less the second; empty where none is paired."""
    found = all_differences(run)
    if all(one.summary is None for one in found):
        return ""
    columns = list(dict.fromkeys(one.column for one in found))
    rows = [
        [Cell(text=f"{one.first} - {one.second}"), *(_difference(each) for each in found[place : place + len(columns)])]
        for place, one in list(enumerate(found))[:: len(columns)]
    ]
    return _table(
        ["pair", *(column.title for column in columns)], rows, num_arms=len(rows), name="differences"
    )  # fmt: skip


def _difference(one: Difference) -> Cell:
    if one.summary is None:
        return Cell(text=NOTHING, note=f"not paired: {one.why_none}")
    seeds = f"paired over seed{'s' if len(one.seeds) > 1 else ''} {', '.join(map(str, one.seeds))}"
    return Cell(text=one.text, number=one.summary.mean, note=seeds)


def _own_untrained(row: ArmRuns, run: Run) -> str:
    """What pointing at a gain says: the arm's own untrained encoder, per seed."""
    column = run.plain_columns[0]
    values = [
        f"seed {seed.seed}: {result.value:.2f}"
        for seed in row.seeds
        if UNTRAINED in seed.controls
        for result in seed.controls[UNTRAINED].probes
        if column.holds(result)
    ]
    return f"its own untrained encoder, {column.title}: {'; '.join(values)}"


def measures_table(run: Run) -> str:
    """One row per measure, one column per arm or control that has some (mean over seeds); the theory's value beside."""
    arms = [row for row in run.rows if any(seed.diagnostics for seed in row.seeds)]
    found = {arm.name: [seed.diagnostics for seed in arm.seeds if seed.diagnostics] for arm in arms}
    names = dict.fromkeys(name for several in found.values() for one in several for name in one.measures)
    optima = {
        name: {one.optimum[name] for several in found.values() for one in several if name in one.optimum}
        for name in names
    }
    shared = all(len(values) <= 1 for values in optima.values())  # else each arm's stands in its cell
    rows = []
    for name in names:
        cells = [Cell(text=name), *([_number(next(iter(optima[name]), None), "{:.4g}")] if shared else [])]
        cells += [_measure(several, name, with_optimum=not shared) for several in found.values()]
        rows.append(cells)
    titles = ["measure", *(["optimum, by theory"] if shared else []), *found]
    return _table(titles, rows, num_arms=len(rows), name="measures") if rows else ""


def _measure(several: list[Diagnostics], name: str, *, with_optimum: bool) -> Cell:
    """Mean over an arm's seeds."""
    values = [one.measures[name] for one in several if name in one.measures]
    cell = _number(sum(values) / len(values) if values else None, "{:.4g}")
    optimum = next((one.optimum[name] for one in several if name in one.optimum), None)
    if optimum is None or not with_optimum:
        return cell
    return Cell(text=f"{cell.text} (optimum {optimum:.4g})", number=cell.number)


def recipe_table(run: Run) -> str:
    """Keys that differ between arms; empty where none does."""
    arms, keys = differing_keys(run)
    rows = [[Cell(text=key), *(Cell(text=value) for value in values)] for key, values in keys]
    return _table(["key", *arms], rows, num_arms=len(rows), name="recipe") if rows else ""


def environment_table(run: Run) -> str:
    """What each run was made with; keys that differ between runs are marked."""
    runs = run.each
    keys = dict.fromkeys(key for one in runs for key in one.environment)
    rows = []
    for key in keys:
        values = [str(one.environment.get(key, NOTHING)) for one in runs]
        rows.append([Cell(text=key), *(Cell(text=value, best=len(set(values)) > 1) for value in values)])
    titles = ["key", *(one.recipe for one in runs)] if len(runs) > 1 else ["key", "value"]
    return _table(titles, rows, num_arms=len(rows), name="environment") if rows else ""


def _number(value: float | None, form: str) -> Cell:
    return Cell(text=NOTHING) if value is None else Cell(text=form.format(value), number=value)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, num_arms: int, name: str) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    lines = []
    for index, cells in enumerate(rows):
        kind = ' class="control"' if index >= num_arms else ""
        first, *others = cells
        text = f'<th scope="row">{escape(first.text)}</th>' + "".join(_cell(cell) for cell in others)
        lines.append(f'<tr{kind} data-row="{index}">{text}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table id="{escape(name)}-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    attributes = ' class="best"' if cell.best else ""
    if cell.number is not None and math.isfinite(cell.number):
        attributes += f' data-sort="{cell.number:.8g}"'
    if cell.note:
        attributes += f' title="{escape(cell.note)}"'
    return f"<td{attributes}>{escape(cell.text)}</td>"
