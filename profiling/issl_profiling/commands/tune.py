"""issl-engine tune: settings with which this machine trains a recipe fastest."""

import json
import os
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from issl_engine.commands.options import json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:
    from issl_profiling.tuning.search import Tuned

FREE_MEMORY_SHARE = 0.8
TRIED_KEYS = (
    "training.channels_last", "training.compile", "training.activation_checkpointing", "training.view_batching",
    "training.precision", "training.threads", "data.decode_threads",
)  # fmt: skip


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Which arm of the recipe; default the first.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Steps of a trial, after two.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of all settings in turn.")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="Ranks that will share the batch.")
@click.option(
    "--memory", "memory_gib", type=click.FloatRange(min=0, min_open=True), metavar="GIB",
    help="CPU: memory that training may use; default 80 % of what is free.",
)  # fmt: skip
@click.option(
    "--try", "only", multiple=True, type=click.Choice(TRIED_KEYS), metavar="KEY",
    help=f"Try this key only; may be repeated; default all: {', '.join(TRIED_KEYS)}.",
)  # fmt: skip
@click.option("--change-results", is_flag=True, help="Also take what changes results beyond rounding, such as bf16.")
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Also write the keys to a YAML file.")
@json_option
def tune(
    recipe: str, overrides: tuple[str, ...], arm: str | None, steps: int, rounds: int, ranks: int,
    memory_gib: float | None, only: tuple[str, ...], change_results: bool, write: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the largest forward pass of RECIPE that fits this machine, and the settings that make its steps fastest.

    Every trial trains a few steps in a process of its own, on one rank. The batch of a step stays as it is; what
    changes results otherwise is said, and taken only with --change-results.

    \b
    Examples:
      issl-engine tune swav_compare
      issl-engine tune imagenet/swav_compare source.folder=IMAGENET --ranks 8 --write tuned.yaml
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe

        chosen = next(iter(load_recipe(recipe, overrides, [arm] if arm else None).arms.values()))
        if write is not None and not write.absolute().parent.is_dir():
            raise Mistake(f"{write}: its folder does not exist; make it or choose another --write")

        from issl_engine.environment import collect_environment, device_summary
        from issl_profiling.tuning.search import TuneSettings
        from issl_profiling.tuning.search import tune as search
        from issl_profiling.tuning.trial import run_trial

        settings = TuneSettings(
            ranks=ranks, limit_bytes=_memory_limit(memory_gib), rounds=rounds, only=only, change_results=change_results
        )
        tuned = search(chosen, partial(run_trial, steps=steps), settings)
        environment = collect_environment()
    command = shlex.join(["issl-engine", "run", recipe, *overrides, *tuned.overrides])
    for warning in tuned.warnings:
        click.echo(f"warning: {warning}", err=True)
    if write is not None:
        write.write_text(_as_yaml(tuned.overrides, device_summary(environment)), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(asdict(tuned) | {"command": command, "environment": environment}, indent=1))
        return
    _show(tuned)
    click.echo(f"on {device_summary(environment)}; train with:")
    click.echo(command)


def _memory_limit(memory_gib: float | None) -> int | None:
    """Bytes that a process may use on a CPU; None on a GPU, where what does not fit fails by itself."""
    import torch

    if torch.cuda.is_available():
        if memory_gib is not None:
            raise Mistake("--memory is for CPUs; on a GPU passes are tried until one fits, so leave it out")
        return None
    if memory_gib is not None:
        return int(memory_gib * 2**30)
    return int(FREE_MEMORY_SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _show(tuned: "Tuned") -> None:
    for one in tuned.timed:
        name = one.setting.name or "as it is"
        outcome = one.unfit or f"{1000 * median(one.seconds):.1f} ms"
        click.echo(f"{name:<70}{outcome:>14}")
    click.echo(
        f"a step of {tuned.images} images per rank: {1000 * tuned.before_seconds:.1f} ms, tuned "
        f"{1000 * tuned.after_seconds:.1f} ms; largest pass {tuned.peak_bytes / 2**30:.2f} GiB"
    )


def _as_yaml(overrides: tuple[str, ...], device: str) -> str:
    import yaml

    from issl_profiling.results_file import this_command

    tree: dict[str, Any] = {}
    for override in overrides:
        path, value = override.split("=", 1)
        *parents, key = path.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = yaml.safe_load(value)
    made_by = this_command()
    return f"# Keys to lay over a recipe, found on {device} by:\n# {made_by}\n" + (
        yaml.safe_dump(tree) if tree else "{}\n"
    )
