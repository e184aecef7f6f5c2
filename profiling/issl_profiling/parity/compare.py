"""All comparisons with torchvision, every operator and every random number, and their table."""

from importlib import import_module

import torch
from rich.console import Console
from rich.table import Table

from issl_engine.mistakes import Mistake
from issl_profiling.parity.deviation import WITHIN, Deviation
from issl_profiling.parity.draws import compare_draws
from issl_profiling.parity.operators import compare_operator, operators
from issl_profiling.parity.pipelines import compare_pipelines
from issl_profiling.torchvision_oracle import load_torchvision

WIDTH = 160
"""Where the terminal's own is unknown, as in a pipe."""


def measure_parity() -> list[Deviation]:
    """All comparisons, on the CPU. Raises Mistake where torchvision is missing."""
    try:
        load_torchvision()
    except ImportError as error:
        raise Mistake(f"parity needs torchvision: {error}") from error
    transforms = import_module("torchvision.transforms.v2")
    functional = transforms.functional
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # images this small take longer on several
    try:
        pixels = [compare_operator(functional, operator) for operator in operators()]
        return [*pixels, *compare_pipelines(functional), *compare_draws(transforms)]
    finally:
        torch.set_num_threads(threads)


def print_parity(deviations: list[Deviation], console: Console | None = None) -> None:
    """A table to stdout, one line per comparison."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    table = Table(title="Beside torchvision", title_justify="left")
    for title in ("operator", "parameters", "compared", "measure"):
        table.add_column(title)
    for title in ("value", "p99", "max", "allowed"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for row in deviations:
        numbers = [_digits(value) for value in (row.value, row.p99, row.max, row.allowed)]
        table.add_row(row.operator, row.parameters, row.compared, row.measure, *numbers, row.verdict)
    console.print(table)
    beyond = sum(row.verdict != WITHIN for row in deviations)
    console.print(f"{len(deviations) - beyond} of {len(deviations)} within what is allowed", highlight=False)


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
