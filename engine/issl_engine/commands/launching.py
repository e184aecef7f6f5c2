"""What run, pretrain and preflight share: a command does its work in this process, or starts ranks that do it."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from issl_engine.commands.display import TrainingDisplay
from issl_engine.commands.options import LaunchOptions, is_quiet
from issl_engine.launch.failure import INTERRUPTED_EXIT_CODE
from issl_engine.launch.folder_lock import Resume, check_folder_is_free
from issl_engine.launch.hosts import Host, read_hostfile
from issl_engine.launch.rank_environment import FAILURE_PIPE, joined_place
from issl_engine.launch.rank_failure import RankFailures, failures_reported_once
from issl_engine.launch.start import Reach, run_ranks, this_machine
from issl_engine.mistakes import Mistake
from issl_engine.ranks import Ranks, start_ranks
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.training.plan import check_batch_size
from issl_engine.training.watch.interruption import Interrupted

_log = logging.getLogger("issl_engine")


class InterruptedRun(click.ClickException):
    """A run that was asked to stop and has saved; its exit code differs from a failure's."""

    exit_code = INTERRUPTED_EXIT_CODE


@contextmanager
def as_rank() -> Iterator[RankFailures]:
    """Encloses all that a rank, or a process that starts ranks, does. The reason why it ends is reported once.

    A run that was asked to stop has saved: it says so and ends with exit code 75, without a traceback.
    """
    try:
        with failures_reported_once() as failures:
            yield failures
    except Interrupted as error:
        raise InterruptedRun(str(error)) from error


def hosts_to_start(launch: LaunchOptions) -> tuple[Host, ...] | None:
    """The hosts whose ranks this process is to start, or None if it does the work itself.

    It does so as a rank that a launcher started, or alone. Raises Mistake for options that contradict the machine or
    each other.
    """
    asked = "--ranks" if launch.ranks is not None else "--hostfile" if launch.hostfile is not None else None
    place = joined_place()
    if place is not None and (place.world_size > 1 or FAILURE_PIPE in os.environ):
        if asked is not None and FAILURE_PIPE not in os.environ:
            raise Mistake(
                f"{asked}: a launcher has started this process as rank {place.rank} of {place.world_size}, and decides "
                f"how many there are; leave {asked} out, or start without the launcher"
            )
        return None
    if launch.ranks is not None and launch.hostfile is not None:
        raise Mistake("--ranks and --hostfile both say how many ranks there are; give one of them")
    if launch.hostfile is not None:
        return read_hostfile(launch.hostfile)
    if place is not None and asked is None:
        return None  # a launcher's lone rank
    num_ranks = _ranks_of_this_machine(launch.ranks)
    return this_machine(num_ranks) if num_ranks > 1 else None


def _ranks_of_this_machine(asked: int | None) -> int:
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked is None:
        return max(1, num_gpus)
    if num_gpus and asked > num_gpus:
        raise Mistake(
            f"--ranks is {asked}, and this machine has {num_gpus} GPU{'s' if num_gpus > 1 else ''}; start at most one "
            "rank per GPU, or set CUDA_VISIBLE_DEVICES to nothing for ranks on the CPU"
        )
    return asked


def run_as_ranks(
    hosts: tuple[Host, ...], recipes: Mapping[str, Recipe], folder: Path, launch: LaunchOptions, *,
    resume: Resume = "auto",
) -> None:  # fmt: skip
    """Starts this command line once per rank, and waits. Raises Mistake for what cannot work, before anything is
    started, and for a rank that failed, which it names; InterruptedRun after a stop."""
    world_size = sum(host.slots for host in hosts)
    for recipe in recipes.values():
        check_batch_size(recipe.training, world_size)
    check_folder_is_free(folder, resume)
    reach = Reach(remote_shell=launch.remote_shell, connect_timeout_seconds=launch.connect_timeout_seconds)
    _log.debug("starting %d ranks on %s", world_size, ", ".join(host.name for host in hosts))
    outcome = run_ranks(sys.argv[1:], hosts, logs=folder / "logs", reach=reach)
    if outcome.message is None:
        return
    if outcome.exit_code == INTERRUPTED_EXIT_CODE:
        raise InterruptedRun(outcome.message)
    raise Mistake(outcome.message)


def train_here(
    file: RecipeFile, folder: Path, failures: RankFailures, *, resume: Resume = "auto", command: str = ""
) -> Ranks:
    """Runs the recipe in this process, as a rank or alone, with its progress on stderr. Returns the ranks that met."""
    from issl_engine.run.recipe import run_recipe  # takes seconds, and starting ranks needs none of it

    ranks = start_ranks()
    failures.meet(ranks.store)
    with TrainingDisplay(quiet=is_quiet()) as display:
        run_recipe(
            file, folder, ranks=ranks, resume=resume, on_arm=display.start if ranks.is_first else None,
            on_hung=failures.tell_of_hang, command=command,
        )  # fmt: skip
    return ranks
