"""issl-engine search: the same search for every arm."""

import shlex
import sys
from pathlib import Path

import click

from issl_engine.commands.options import (
    SEED,
    LaunchOptions,
    is_quiet,
    json_option,
    launch_options,
    overrides_argument,
    recipe_argument,
)
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake


def _whole_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``0,1`` → (0, 1)."""
    return None if value is None else tuple(SEED(part, param, ctx) for part in value.split(","))


@click.command()
@recipe_argument
@overrides_argument
@click.option(
    "--trials", type=click.IntRange(1, 999), required=True, help="Trials of each arm, the recipe's own first."
)
@click.option("--seeds", callback=_whole_numbers, metavar="N,N...", help="Seeds of every trial; default the recipe's.")
@click.option("--arm", "arms", multiple=True, help="Search only this arm. It may be given several times.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default runs/<recipe>_search.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time, on this machine.")
@click.option("--search-seed", type=SEED, default=0, show_default=True, help="Seed of the drawn settings.")
@launch_options
@json_option
def search(
    recipe: str,
    overrides: tuple[str, ...],
    trials: int,
    seeds: tuple[int, ...] | None,
    arms: tuple[str, ...],
    out: Path | None,
    jobs: int,
    search_seed: int,
    launch: LaunchOptions,
    as_json: bool,
) -> None:
    """Try equally many settings for every arm of RECIPE, and write the recipe with the best of each.

    Trials are judged by the recipe's first probe, on held-out training images alone: the test split is not read. Trial
    0 is the recipe as it is; the others are spread evenly over the ranges that each objective and optimiser declares,
    which 'search.ranges' in the recipe changes. A trial whose loss is no longer finite counts, and comes last.

    The folder holds a run folder a trial, search.csv, search.svg and chosen.yaml. The same command goes on with a
    search that was stopped; more --trials or --seeds add to it; a finished one only prints its table.

    Several ranks (GPUs) work on one trial after the other; --jobs is for one rank, such as several trials at a time on
    the cores of a CPU.

    \b
    Examples:
      issl-engine search swav_compare --trials 12 --seeds 0,1 --jobs 2
      issl-engine search swav_compare --trials 8 --arm dissl training.epochs=3
      issl-engine run runs/swav_compare_search/chosen.yaml
    """
    from issl_engine.commands.launching import as_rank, hosts_to_start, run_as_ranks

    with as_rank() as failures:
        with reserved_stdout():
            from issl_engine.launch.rank_environment import joined_place
            from issl_engine.recipe.load import load_recipe
            from issl_engine.search.plan import plan_search
            from issl_engine.search.run import is_finished

            file = load_recipe(recipe, overrides)
            searched = list(load_recipe(recipe, overrides, arms).arms if arms else file.arms)
            plan = plan_search(file, num_trials=trials, seeds=seeds, search_seed=search_seed)
            folder = out or Path("runs") / f"{next(iter(file.arms.values())).name}_search"
            if is_finished(folder, plan, searched):
                hosts, work = None, False
            else:
                hosts, work = hosts_to_start(launch), True
        if hosts is not None:
            if jobs > 1:
                raise Mistake("--jobs is for one rank, and there are several, which share each trial; leave it out")
            run_as_ranks(hosts, file.arms, folder, launch)
            return
        place = joined_place()
        is_first = place is None or place.rank == 0
        if work:
            with reserved_stdout():
                from issl_engine.commands.display import TrainingDisplay
                from issl_engine.ranks import start_ranks
                from issl_engine.search.run import run_search

                ranks = start_ranks()
                failures.meet(ranks.store)
                if jobs > 1 and ranks.world_size > 1:
                    raise Mistake("--jobs is for one rank, and there are several, which share each trial; leave it out")
                with TrainingDisplay(quiet=is_quiet()) as display:
                    run_search(
                        plan, searched, folder, ranks=ranks, jobs=jobs, on_arm=display.start if is_first else None,
                        on_hung=failures.tell_of_hang, command=shlex.join(["issl-engine", *sys.argv[1:]]),
                    )  # fmt: skip
        if is_first:
            from issl_engine.search.table import print_results

            print_results(folder, plan, as_json=as_json)
