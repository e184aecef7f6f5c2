"""Where the results of benchmarks lie."""

from pathlib import Path

RESULTS_FOLDER = Path("profiling/results")


def default_results(name: str) -> Path:
    """The file in profiling/results, or here where there is no such folder."""
    return (RESULTS_FOLDER if RESULTS_FOLDER.is_dir() else Path()) / name
