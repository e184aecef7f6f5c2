"""issl-engine bench features: writing, opening and probing features that lie in a file."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Literal

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import results_option

_log = logging.getLogger("issl_engine")


@click.command("features")
@click.option("--images", type=click.IntRange(8000), default=120_000, show_default=True, help="Rows of the file.")
@click.option("--dim", type=click.IntRange(1), default=2048, show_default=True, help="Numbers per row.")
@click.option(
    "--type", "stored", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
    help="Of the numbers in the file.",
)  # fmt: skip
@click.option(
    "--may-grow", "limit_mib", type=click.FloatRange(1), default=384, show_default=True, metavar="MIB",
    help="Memory of its own that a step may ask for; beyond it, it fails.",
)  # fmt: skip
@click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where the file is written; default a temporary folder.",
)  # fmt: skip
@results_option("features.csv")
@json_option
def bench_features(
    images: int, dim: int, stored: Literal["float32", "float16"], limit_mib: float, folder: Path | None,
    out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Time the feature cache on made-up features: writing, opening, orders of rows, a linear and a kNN probe.

    Each step is a process that may not ask for more memory than --may-grow, so that one that copies the file fails.
    The file is removed at the end.

    \b
    Examples:
      issl-engine bench features
      issl-engine bench features --images 20000 --dim 512 --may-grow 128
    """
    with reserved_stdout(), tempfile.TemporaryDirectory(dir=folder) as place:
        from issl_profiling.features.case import FeatureCase
        from issl_profiling.features.steps import run_steps
        from issl_profiling.features.table import FEATURES_FILE, as_record, print_features
        from issl_profiling.results_file import made_by_this_run

        FEATURES_FILE.check_can_add(out)
        made_by = made_by_this_run()
        case = FeatureCase(num_images=images, dim=dim, stored=stored)
        measured = run_steps(case, Path(place), limit_mib, lambda step: _log.info("%s", step))
        lines = FEATURES_FILE.add(out, [as_record(case, one) for one in measured], made_by)
    if as_json:
        click.echo(json.dumps(lines, indent=1))
        return
    print_features(case, measured)
    click.echo(out)
