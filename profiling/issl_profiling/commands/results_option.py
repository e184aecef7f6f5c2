"""Where the results of a benchmark go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

RESULTS_FOLDER = Path("profiling/results")


def default_results(name: str) -> Path:
    """The file in profiling/results, or here where there is no such folder."""
    return (RESULTS_FOLDER if RESULTS_FOLDER.is_dir() else Path()) / name


def results_option(name: str, action: str = "add to") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--out FILE``; the command gets the path, that of ``default_results(name)`` where none is given."""
    return click.option(
        "--out", type=click.Path(path_type=Path), metavar="FILE",
        callback=lambda context, option, value: default_results(name) if value is None else value,
        help=f"CSV to {action}; default {name} in profiling/results, or here where there is no such folder.",
    )  # fmt: skip
