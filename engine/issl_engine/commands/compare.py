"""issl-engine compare: several run folders in one table."""

import json
from pathlib import Path

import click

from issl_engine.commands.options import json_option


@click.command()
@click.argument("run_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_DIR...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results.csv, differences.csv and report.html; default none.",
)
@json_option
def compare(run_dirs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Print one table of the arms of several run folders.

    \b
    Example:
      issl-engine compare runs/swav_compare runs/longer --out runs/both
    """
    from issl_engine.report.compare import compare_runs
    from issl_engine.report.table import print_table
    from issl_engine.report.write import write_all

    together = compare_runs(list(run_dirs))
    if as_json:
        click.echo(json.dumps(together.as_json(), indent=1))
    else:
        print_table(together)
    if out is not None:
        click.echo(f"report: {write_all(out, together)}", err=as_json)
