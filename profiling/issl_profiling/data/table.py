"""What bench data prints and keeps: a table, what to change, the lines of data.csv."""

import io
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_profiling.data.cases import DataCase
from issl_profiling.data.loaders import LOADER
from issl_profiling.data.rates import Rate
from issl_profiling.results_file import MADE_BY, ResultsFile, significant

WIDTH = 120
NOTICEABLE = 1.05
"""A change below it is not worth a word."""
COLUMNS = (
    "case", "views", "batch_size", "threads", "kind", "name", "images_per_second", "p20", "p80", "ms_per_image",
    "loader_over_it", "rounds", *MADE_BY,
)  # fmt: skip
DATA_FILE = ResultsFile(columns=COLUMNS, holds="bench data's lines")


def whole(rates: list[Rate]) -> Rate:
    """The line of the whole loader."""
    return next(rate for rate in rates if rate.candidate.name == LOADER)


def loader_over(rates: list[Rate], other: Rate) -> float:
    """How many times as fast our loader is, as the median of the rounds' ratios."""
    return median(a / b for a, b in zip(whole(rates).values, other.values, strict=True))


def records(case: DataCase, rates: list[Rate]) -> list[dict[str, Any]]:
    """One per candidate, for DATA_FILE."""
    return [
        {
            "case": case.name, "views": case.views_text, "batch_size": case.batch_size,
            "threads": case.decode_threads, "kind": rate.candidate.kind, "name": rate.candidate.name,
            "images_per_second": significant(rate.spread.median), "p20": significant(rate.spread.p20),
            "p80": significant(rate.spread.p80),
            "ms_per_image": significant(rate.milliseconds_per_image),
            "loader_over_it": significant(loader_over(rates, rate)), "rounds": len(rate.values),
        }
        for rate in rates
    ]  # fmt: skip


def render(case: DataCase, rates: list[Rate]) -> str:
    """The table of one case and what to change, as text. A stage's own cost is what it adds to the one before."""
    table = Table(
        title=f"{case.name}: {case.views_text}, batches of {case.batch_size}, {case.decode_threads} threads",
        title_justify="left",
    )
    table.add_column("")
    for title in ("images/s", "20 to 80 %", "ms per image", "its own", "loader / it"):
        table.add_column(title, justify="right")
    before = 0.0
    for rate in rates:
        cost = rate.milliseconds_per_image
        own = f"{max(0.0, cost - before):.3g}" if rate.candidate.kind == "stage" else ""
        before = cost
        table.add_row(
            rate.candidate.name, f"{rate.spread.median:.0f}", f"{rate.spread.p20:.0f} to {rate.spread.p80:.0f}",
            f"{cost:.3g}", own, f"{loader_over(rates, rate):.2f}",
        )  # fmt: skip
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(table)
    for line in advice(rates):
        console.print(line, highlight=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def advice(rates: list[Rate]) -> list[str]:
    """What to change, best first, with the speed measured for it; what was tried and does not help in one line."""
    tried = [(1 / loader_over(rates, rate), rate) for rate in rates if rate.candidate.kind == "change"]
    now = whole(rates).spread.median
    helping = sorted(((gain, rate) for gain, rate in tried if gain >= NOTICEABLE), key=lambda pair: -pair[0])
    lines = [
        f"{rate.candidate.advice}: {gain:.2f} x, about {gain * now:.0f} images/s instead of {now:.0f}"
        for gain, rate in helping
    ]
    rest = [f"{rate.candidate.name} ({gain:.2f} x)" for gain, rate in tried if gain < NOTICEABLE]
    return [*lines, *([f"no gain from {', '.join(rest)}"] if rest else [])]
