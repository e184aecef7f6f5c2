"""issl-engine bench train: images a second of training, of its parts, and of other trainers."""

import json
import logging
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.bench_results import default_results

_log = logging.getLogger("issl_engine")

DEFAULT_RECIPE = "swav_compare"


@click.command("train")
@click.argument("recipe", required=False, default=DEFAULT_RECIPE)
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Only this arm of the recipe; may be repeated; default all.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of all in turn.")
@click.option("--steps", type=click.IntRange(1), default=6, show_default=True, help="Steps timed in a round.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Also time other libraries' trainers.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV to add to; default train.csv in profiling/results, or here where there is no such folder.",
)  # fmt: skip
@json_option
def bench_train(
    recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], rounds: int, steps: int, peers: bool,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Time training RECIPE (default swav_compare) on this machine, its parts, and other trainers beside it.

    The parts: the step on crops that are there already, the loader alone, the bare encoder, heads and loss. The others:
    a trainer in plain PyTorch with torchvision's transforms, and lightly's (issl-engine[peers]).

    \b
    Examples:
      issl-engine bench train
      issl-engine bench train swav_compare --arm dissl --rounds 3
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe
        from issl_engine.run.dataset import load_dataset
        from issl_profiling.data.results_file import check_results_file, origin
        from issl_profiling.train.bench import bench_arm
        from issl_profiling.train.case import TrainCase
        from issl_profiling.train.one_rank import start_one_rank
        from issl_profiling.train.report import ABOUT, COLUMNS, WHAT, append_records, records, render

        results = out or default_results("train.csv")
        check_results_file(results, COLUMNS, WHAT)
        chosen = load_recipe(recipe, overrides, arms or None).arms
        ranks = start_one_rank("bench train")
        cases = [TrainCase.of(arm, one, load_dataset(one), ranks) for arm, one in chosen.items()]
        made_by = origin(shlex.join(["issl-engine", *sys.argv[1:]]))
        lines, text, ratios = [], "", {}
        for case in cases:
            measured = bench_arm(
                case, rounds=rounds, steps=steps, with_peers=peers,
                on_round=lambda number, one, arm=case.arm: _log.info(  # type: ignore[misc]
                    "%s: round %d of %d, %s", arm, number + 1, rounds, one.name
                ),
            )  # fmt: skip
            of_arm = records(case, measured.rounds, steps, made_by)
            append_records(results, of_arm)
            lines += of_arm
            text += render(case, of_arm, measured.ratios, measured.left_out)
            ratios[case.arm] = {
                "ratios": [asdict(ratio) | {"verdict": ratio.verdict} for ratio in measured.ratios],
                "left_out": [asdict(one) for one in measured.left_out],
            }
    if as_json:
        click.echo(json.dumps({"lines": lines, "arms": ratios}, indent=1))
        return
    click.echo(f"{text}{ABOUT}\non {made_by['device']}")
    click.echo(results)
