"""Arguments that several commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from issl_engine.sources.base import SourceConfig

recipe_argument = click.argument("recipe")
"""RECIPE: a file, or the name of a packaged recipe."""

overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
"""Overrides of the recipe's keys, such as ``training.epochs=2``."""

run_folder_option = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; default runs/<recipe name>."
)

SEED = click.IntRange(0, 2**32 - 1)
"""What ``seeds`` of a recipe may hold."""

NETWORK = click.Choice(["student", "teacher"])
NETWORK_HELP = "Of a checkpoint whose objective has an EMA teacher: the encoder that took gradients, or the teacher's."

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Which ranks to start, and how other hosts are reached."""

    ranks: int | None
    hostfile: Path | None
    remote_shell: str
    connect_timeout_seconds: float


def launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which ranks to start; the command gets them as ``launch``."""

    @click.option(
        "--ranks",
        type=click.IntRange(min=1),
        help="Processes to start here; default one per GPU, or one on the CPU.",
    )
    @click.option(
        "--hostfile",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Start ranks on several hosts: a file of lines 'host slots=N'.",
    )
    @click.option(
        "--remote-shell",
        default="ssh -o BatchMode=yes",
        show_default=True,
        help="Program that runs a command on a host; it is called with the host and the command.",
    )
    @click.option(
        "--connect-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        help="Seconds in which a host of the hostfile must answer.",
    )
    @wraps(command)
    def packed(
        *, ranks: int | None, hostfile: Path | None, remote_shell: str, connect_timeout: float, **others: Any
    ) -> None:
        launch = LaunchOptions(
            ranks=ranks, hostfile=hostfile, remote_shell=remote_shell, connect_timeout_seconds=connect_timeout
        )
        command(launch=launch, **others)

    return packed


def is_quiet() -> bool:
    """Whether ``--quiet`` was given before the command."""
    return bool(click.get_current_context().find_root().params.get("quiet", False))


def named_source(source: str, overrides: tuple[str, ...]) -> "SourceConfig":
    """The SOURCE argument: a folder, or a recipe, of which the first arm's source is taken with the overrides.

    Raises Mistake where there is none, UsageError for overrides of a folder.
    """
    if not Path(source).is_dir():
        from issl_engine.recipe.load import load_recipe  # takes seconds, since it knows every part of a recipe

        return next(iter(load_recipe(source, overrides, None).arms.values())).source
    if overrides:
        raise click.UsageError(f"{overrides[0]}: a folder has no keys to override; name a recipe")
    from issl_engine.sources.recognise import source_of_folder

    return source_of_folder(Path(source))
