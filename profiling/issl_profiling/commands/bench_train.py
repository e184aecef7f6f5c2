"""issl-engine bench train: images per second of training, of its parts, and of other trainers."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import results_option

_log = logging.getLogger("issl_engine")

DEFAULT_RECIPE = "swav_compare"


@click.command("train")
@click.argument("recipe", required=False, default=DEFAULT_RECIPE)
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Only this arm of the recipe; may be repeated; default all.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of all in turn.")
@click.option("--steps", type=click.IntRange(1), default=6, show_default=True, help="Steps timed in a round.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Also time other libraries' trainers.")
@results_option("train.csv")
@json_option
def bench_train(
    recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], rounds: int, steps: int, peers: bool,
    out: Path, as_json: bool,
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
        from issl_profiling.results_file import made_by_this_run
        from issl_profiling.train.bench_arm import bench_arm
        from issl_profiling.train.case import cases_of_one_rank
        from issl_profiling.train.table import ABOUT, TRAIN_FILE, records, render

        TRAIN_FILE.check_can_add(out)
        cases = cases_of_one_rank(recipe, overrides, arms, command="bench train")
        made_by = made_by_this_run()
        lines, text, ratios = [], "", {}
        for case in cases:
            measured = bench_arm(
                case, rounds=rounds, steps=steps, with_peers=peers,
                on_round=lambda number, one, arm=case.arm: _log.info(  # type: ignore[misc]
                    "%s: round %d of %d, %s", arm, number + 1, rounds, one.name
                ),
            )  # fmt: skip
            of_arm = TRAIN_FILE.add(out, records(case, measured.rounds, steps), made_by)
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
    click.echo(out)
