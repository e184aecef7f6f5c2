"""issl-engine bench data: images per second of the loader, stage by stage, beside torchvision; memory over time."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import default_results

if TYPE_CHECKING:
    from issl_profiling.data.cases import DataCase
    from issl_profiling.data.rates import Rate

_log = logging.getLogger("issl_engine")


@click.command("data")
@click.argument("recipe", required=False)
@overrides_argument
@click.option("--arm", help="Which arm of the recipe; default the first.")
@click.option(
    "--case",
    "cases",
    multiple=True,
    type=click.Choice(["photos", "small"]),
    help="Without a recipe: which of the two generated sets; may be repeated; default both.",
)
@click.option(
    "--threads", type=click.IntRange(1), help="Without a recipe: threads, and workers of the peers; default the cores."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of all loaders in turn.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Also time torchvision's loader.")
@click.option(
    "--soak",
    "soak_batches",
    type=click.IntRange(10),
    metavar="BATCHES",
    help="Instead of speeds, the memory of the process over so many batches; writes a CSV and a PNG.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV to add to; default data.csv, with --soak data_soak.csv, in profiling/results or here.",
)  # fmt: skip
@json_option
def bench_data(
    recipe: str | None, overrides: tuple[str, ...], arm: str | None, cases: tuple[str, ...], threads: int | None,
    rounds: int, peers: bool, soak_batches: int | None, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Time the loader of RECIPE: reading, decoding, crops, augmentation, all of it; say what would make it faster.

    Without RECIPE two generated sets are loaded: photos of 500 x 375 px as JPEG files with 2x224 + 6x96 crops, and
    32 px images in memory with 2x32 + 4x16. The peers are torchvision's transforms with as many workers as we have
    threads.

    \b
    Examples:
      issl-engine bench data
      issl-engine bench data imagenet/swav_compare source.folder=IMAGENET data.decode_threads=16
      issl-engine bench data --case photos --soak 2000
    """
    if recipe is not None and (cases or threads is not None):
        raise click.UsageError("--case and --threads go without RECIPE; override data.decode_threads instead")
    if soak_batches and recipe is None and len(cases) != 1:
        raise click.UsageError("--soak takes one loader: name a recipe, --case photos or --case small")
    with reserved_stdout(), tempfile.TemporaryDirectory() as folder:
        from issl_profiling.data.table import DATA_FILE, records, render
        from issl_profiling.results_file import check_can_write, made_by_this_run

        results = out or default_results("data_soak.csv" if soak_batches else "data.csv")
        if soak_batches:
            check_can_write(results)
        else:
            DATA_FILE.check_can_add(results)
        made_by = made_by_this_run()
        chosen = _cases(recipe, overrides, arm, cases or ("photos", "small"), threads, Path(folder))
        if soak_batches:
            lines, text = _soak(chosen[0], soak_batches, results, made_by)
        else:
            lines, text = [], ""
            for case in chosen:
                rates, left_out = _rates(case, Path(folder), rounds, peers)
                lines += DATA_FILE.add(results, records(case, rates), made_by)
                text += render(case, rates) + left_out
    if as_json:
        click.echo(json.dumps(lines, indent=1))
        return
    click.echo(text.rstrip())
    click.echo(results)


def _cases(
    recipe: str | None, overrides: tuple[str, ...], arm: str | None, names: tuple[str, ...], threads: int | None,
    folder: Path,
) -> list["DataCase"]:  # fmt: skip
    from issl_engine.ranks import start_ranks
    from issl_profiling.data.cases import photo_case, recipe_case, small_case

    device = start_ranks().device
    if recipe is None:
        workers = threads or len(os.sched_getaffinity(0))
        made = {
            "photos": lambda: photo_case(folder, decode_threads=workers, device=device),
            "small": lambda: small_case(decode_threads=workers, device=device),
        }
        return [made[name]() for name in names]

    from issl_engine.recipe.load import load_recipe
    from issl_engine.run.dataset import load_dataset

    chosen = next(iter(load_recipe(recipe, overrides, [arm] if arm else None).arms.values()))
    return [recipe_case(chosen, load_dataset(chosen), device=device)]


def _rates(case: "DataCase", folder: Path, rounds: int, with_peers: bool) -> "tuple[list[Rate], str]":
    """The speeds, and a line on the peers where they cannot be timed."""
    from issl_profiling.data.loaders import changes, peers, stages
    from issl_profiling.data.rates import measure_rates
    from issl_profiling.data.torchvision_loader import no_counterpart

    reason = no_counterpart(case.views) if with_peers else None
    others = peers(case) if with_peers and reason is None else []
    rates = measure_rates(
        case, [*stages(case), *others, *changes(case, folder)], rounds=rounds,
        on_round=lambda number, one: _log.info("%s: round %d of %d, %s", case.name, number + 1, rounds, one.name),
    )  # fmt: skip
    return rates, f"torchvision is left out: {reason}\n" if reason else ""


def _soak(
    case: "DataCase", batches: int, results: Path, made_by: dict[str, Any]
) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
    from issl_profiling.data.soak import SOAK_FILE, describe_soak, draw_soak, soak, soak_records

    measured = soak(case, batches, lambda done: _log.info("%s: %d of %d batches", case.name, done, batches))
    lines = SOAK_FILE.replace(results, soak_records(case, measured), made_by)
    text = describe_soak(measured)
    picture = results.with_suffix(".png")
    draw_soak(picture, measured, f"{case.name}, {case.views_text}, batches of {case.batch_size}\n{text}")
    return lines, f"{text}\n{picture}"
