"""How run and report print a run folder's results."""

import json
from pathlib import Path

import click

from issl_engine.report.run_folder import load_run
from issl_engine.report.table import print_table


def show_results(folder: Path, *, as_json: bool) -> None:
    """JSON, or the table and where the files are; on stdout."""
    run = load_run(folder)
    if as_json:
        click.echo(json.dumps(run.as_json(), indent=1))
        return
    print_table(run)
    click.echo(f"report:  {folder / 'report.html'}\nresults: {folder / 'results.csv'}")
