"""issl-engine report: a run folder's table, CSV and page, written again."""

import json
from pathlib import Path

import click

from issl_engine.commands.options import json_option


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@json_option
def report(run_dir: Path, as_json: bool) -> None:
    """Write results.csv, differences.csv and report.html of RUN_DIR again, and print its tables.

    The run may still be going on.

    \b
    Example:
      issl-engine report runs/swav_compare
    """
    from issl_engine.report.write import write_report

    write_report(run_dir)
    show_results(run_dir, as_json=as_json)


def show_results(folder: Path, *, as_json: bool) -> None:
    """JSON, or the table and where the files are; on stdout: what run prints too."""
    from issl_engine.report.run_folder import load_run
    from issl_engine.report.table import print_table

    run = load_run(folder)
    if as_json:
        click.echo(json.dumps(run.as_json(), indent=1))
        return
    print_table(run)
    click.echo(f"report:  {folder / 'report.html'}\nresults: {folder / 'results.csv'}")
