"""issl-engine bench diagnostics: what measuring the representation during training costs."""

import json
import logging
import shlex
import sys
from pathlib import Path

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.bench_results import default_results

_log = logging.getLogger("issl_engine")


@click.command("diagnostics")
@click.argument("recipe", required=False, default="swav_compare")
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Only this arm of the recipe; may be repeated; default all.")
@click.option("--pairs", type=click.IntRange(2), default=30, show_default=True, help="Pairs of steps.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV to add to; default diagnostics.csv in profiling/results, or here where there is no such folder.",
)  # fmt: skip
@json_option
def bench_diagnostics(
    recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], pairs: int, out: Path | None, as_json: bool
) -> None:
    """Time the training steps of RECIPE (default swav_compare) with and without a measurement, in turn.

    A measurement is made once in diagnostics.every_steps steps; its share of training is the median of the pairs'
    ratios, less 1, over that number.

    \b
    Examples:
      issl-engine bench diagnostics
      issl-engine bench diagnostics tinyimagenet/dissl diagnostics.num_images=512 --pairs 10
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe
        from issl_engine.run.dataset import load_dataset
        from issl_profiling.data.results_file import append_lines, check_results_file, origin
        from issl_profiling.train.case import TrainCase
        from issl_profiling.train.diagnostics_cost import COLUMNS, WHAT, measure_cost
        from issl_profiling.train.one_rank import start_one_rank

        results = out or default_results("diagnostics.csv")
        check_results_file(results, COLUMNS, WHAT)
        chosen = load_recipe(recipe, overrides, arms or None).arms
        ranks = start_one_rank("bench diagnostics")
        made_by = origin(shlex.join(["issl-engine", *sys.argv[1:]]))
        lines = []
        for arm, one in chosen.items():
            _log.info("%s: %d pairs of steps", arm, pairs)
            case = TrainCase.of(arm, one, load_dataset(one), ranks)
            lines.append(measure_cost(case, pairs=pairs).record(made_by))
        append_lines(results, COLUMNS, lines)
    if as_json:
        click.echo(json.dumps(lines, indent=1))
        return
    for line in lines:
        click.echo(
            f"{line['recipe']}, {line['arm']}: a step {line['ms_per_step']:g} ms, a measurement "
            f"{line['ms_measurement']:g} ms; with one, a step takes {line['measured_over_step']:g} times as long "
            f"({line['p20']:g} to {line['p80']:g}); every "
            f"{line['interval_steps']} steps, {line['share_of_training']:.2%} of training"
        )
    click.echo(f"on {made_by['device']}\n{results}")
