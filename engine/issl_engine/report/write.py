"""results.csv, differences.csv and report.html, for one run or a comparison."""

from pathlib import Path

from issl_engine.layout import CURVES, DIFFERENCES, PAGE, RESULTS
from issl_engine.report.csv_file import write_csv
from issl_engine.report.differences_csv import write_differences
from issl_engine.report.html import write_page
from issl_engine.report.over_training import write_over_training
from issl_engine.report.run_folder import Run, load_run


def write_report(folder: Path) -> Path:
    """Writes all into the run folder; returns the page. Works on a run that is still under way."""
    run = load_run(folder)
    return write_all(folder, run)


def write_all(folder: Path, run: Run) -> Path:
    """Writes all into ``folder``, which is made if it is missing; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / RESULTS, run)
    write_differences(folder / DIFFERENCES, run)
    write_over_training(folder / CURVES, run)
    page = folder / PAGE
    write_page(page, run.recipe, run)
    return page
