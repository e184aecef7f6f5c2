"""The command line. Each command is a module of ``issl_engine.commands``, imported only when it is called."""

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from issl_engine import __version__
from issl_engine.mistakes import is_mistake, mistakes_from, sentence_of

# OpenMP's threads spin while they wait. Where cores are shared (DALI's threads, another process), a spinning thread
# keeps the one it waits for from running: steps took up to seven times as long. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True, kw_only=True)
class LazyCommand:
    """The place where a command is defined, and the line that ``--help`` shows for it."""

    place: str
    help: str

    def load(self) -> click.Command:
        module, _, attribute = self.place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


COMMANDS = {
    "run": LazyCommand(
        place="issl_engine.commands.run:run", help="Pretrain and probe a whole recipe, and write a report."
    ),
    "search": LazyCommand(
        place="issl_engine.commands.search:search", help="Try settings for every arm, and write the best of each."
    ),
    "pretrain": LazyCommand(place="issl_engine.commands.pretrain:pretrain", help="Pretrain one arm of a recipe."),
    "preflight": LazyCommand(
        place="issl_engine.commands.preflight:preflight",
        help="Check on every rank what a recipe needs, without training.",
    ),
    "slurm": LazyCommand(
        place="issl_engine.commands.slurm:slurm", help="Write a batch script for many nodes under Slurm."
    ),
    "probe": LazyCommand(place="issl_engine.commands.probe:probe", help="Probe an encoder, or evaluate it on a suite."),
    "diagnose": LazyCommand(
        place="issl_engine.commands.diagnose:diagnose",
        help="Measure collapse, and the distance to the theory's optimum.",
    ),
    "checkpoint": LazyCommand(
        place="issl_engine.commands.checkpoint:checkpoint", help="Verify, inspect, consolidate or prune checkpoints."
    ),
    "export": LazyCommand(
        place="issl_engine.commands.export:export", help="Write an encoder for torchvision, timm, ONNX and others."
    ),
    "inspect-weights": LazyCommand(
        place="issl_engine.commands.inspect_weights:inspect_weights", help="Show what a file of weights holds."
    ),
    "compare": LazyCommand(
        place="issl_engine.commands.compare:compare", help="Print one table of several run folders."
    ),
    "report": LazyCommand(place="issl_engine.commands.report:report", help="Write the report of a run folder again."),
    "serve": LazyCommand(place="issl_engine.commands.serve:serve", help="Show runs in the browser while they train."),
    "profile": LazyCommand(
        place="issl_profiling.commands.profile:profile", help="Show where the time of a training step goes."
    ),
    "tune": LazyCommand(
        place="issl_profiling.commands.tune:tune", help="Find the settings with which this machine trains fastest."
    ),
    "bench": LazyCommand(place="issl_profiling.commands.bench:bench", help="Time kernels, loaders and training."),
    "plan": LazyCommand(
        place="issl_profiling.commands.plan:plan", help="Predict a recipe's time and memory on many GPUs."
    ),
    "theory": LazyCommand(
        place="issl_engine.commands.theory:theory", help="Show what the theory asks of a recipe, or test the theory."
    ),
    "list": LazyCommand(place="issl_engine.commands.list:list_names", help="List the names that a recipe may use."),
    "show": LazyCommand(
        place="issl_engine.commands.show:show", help="Print a recipe with every key, its value and its meaning."
    ),
    "validate": LazyCommand(place="issl_engine.commands.validate:validate", help="Check recipes without running them."),
    "views": LazyCommand(place="issl_engine.commands.views:views", help="Draw the crops that a recipe makes."),
    "data": LazyCommand(place="issl_engine.commands.data:data", help="Make, fetch, inspect or pack a dataset."),
    "doctor": LazyCommand(
        place="issl_engine.commands.doctor:doctor", help="Show what is installed, and what each part is for."
    ),
}


class UserError(click.ClickException):
    """A mistake of the user: its sentence goes to stderr, exit code 1."""

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"error: {line}", file=file or sys.stderr)


class CommandLine(click.Group):
    """A group that imports a command when it is called, and distinguishes users' mistakes from defects.

    A mistake (``mistakes.py``: a wrong recipe, a missing folder) gives one sentence and exit code 1, and with
    ``--debug`` the traceback. Anything else is a defect and always shows its traceback.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.lazy.get(cmd_name)
        return lazy.load() if lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Exception as error:
            if ctx.params["debug"] or not is_mistake(error):
                raise
            raise UserError(sentence_of(error)) from error


@click.command(cls=CommandLine, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="issl-engine")
@click.option("--quiet", is_flag=True, help="Log warnings and errors only.")
@click.option("--debug", is_flag=True, help="Log more, and show the traceback of every error.")
def main(quiet: bool, debug: bool) -> None:
    """Self-supervised pretraining and probing of image encoders.

    \b
    Examples:
      issl-engine run recipes/swav_compare.yaml
      issl-engine show swav_compare
      issl-engine list objectives
    """
    _check_kernels_variable()
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    for name in ("issl_engine", "issl_kernels"):
        log = logging.getLogger(name)
        log.setLevel(level)
        if not any(isinstance(handler, _ToStderr) for handler in log.handlers):
            log.addHandler(_ToStderr())


def _check_kernels_variable() -> None:
    """A wrong ISSL_KERNELS is reported at once, and not where the first loss is computed."""
    if os.environ.get("ISSL_KERNELS"):  # else torch, which takes seconds, is not loaded for --help
        from issl_kernels.path import requested_path

        with mistakes_from(ValueError):
            requested_path()


class _ToStderr(logging.Handler):
    """Writes to what stderr is at that moment, since a progress bar replaces it for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)
