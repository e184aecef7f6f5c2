"""issl-engine bench parity: the loader's augmentations beside torchvision's."""

import json
import sys
from pathlib import Path

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import results_option


@click.command("parity")
@results_option("parity.csv", "write anew")
@json_option
def bench_parity(out: Path, as_json: bool) -> None:
    """Compare the loader's augmentations with torchvision's: pixels, and the distributions of random numbers.

    Takes torchvision (issl-engine[peers]). Exit code 1 where something is further off than allowed.

    \b
    Example:
      issl-engine bench parity
    """
    with reserved_stdout():
        from issl_profiling.parity.compare import measure_parity, print_parity
        from issl_profiling.parity.deviation import PARITY_FILE, WITHIN, as_record
        from issl_profiling.results_file import made_by_this_run

        PARITY_FILE.check_can_add(out)  # it is written anew, but no other table is
        deviations = measure_parity()
        lines = PARITY_FILE.replace(out, [as_record(deviation) for deviation in deviations], made_by_this_run())
    if as_json:
        click.echo(json.dumps(lines, indent=1))
    else:
        print_parity(deviations)
        click.echo(out)
    if any(deviation.verdict != WITHIN for deviation in deviations):
        sys.exit(1)
