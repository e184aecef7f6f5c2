"""issl-engine bench diagnostics: what measuring the representation during training costs."""

import json
import logging
from pathlib import Path

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import results_option

_log = logging.getLogger("issl_engine")


@click.command("diagnostics")
@click.argument("recipe", required=False, default="swav_compare")
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Only this arm of the recipe; may be repeated; default all.")
@click.option("--pairs", type=click.IntRange(2), default=30, show_default=True, help="Pairs of steps.")
@results_option("diagnostics.csv")
@json_option
def bench_diagnostics(
    recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], pairs: int, out: Path, as_json: bool
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
        from issl_profiling.results_file import made_by_this_run
        from issl_profiling.train.case import cases_of_one_rank
        from issl_profiling.train.diagnostics_cost import DIAGNOSTICS_FILE, measure_cost

        DIAGNOSTICS_FILE.check_can_add(out)
        cases = cases_of_one_rank(recipe, overrides, arms, command="bench diagnostics")
        made_by = made_by_this_run()
        costs = []
        for case in cases:
            _log.info("%s: %d pairs of steps", case.arm, pairs)
            costs.append(measure_cost(case, pairs=pairs))
        lines = DIAGNOSTICS_FILE.add(out, [cost.record() for cost in costs], made_by)
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
    click.echo(f"on {made_by['device']}\n{out}")
