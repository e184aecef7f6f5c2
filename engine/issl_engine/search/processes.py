"""Trials in several processes of this machine, which share its cores."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from issl_engine.launch.tied_to_parent import PARENT, end_with_parent
from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe
from issl_engine.search.outcome import Outcome
from issl_engine.training.watch.interruption import sigterm_interrupts

Work = tuple[str, Recipe, Path, str]
"""What ``run_trial`` takes: arm, recipe, folder, command."""


def run_in_processes(work: Sequence[Work], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """(Place in ``work``, its outcome) as they come. Torch's threads are shared out over the processes.

    When this process is stopped, or a trial raises, the others are asked to save and end first. Raises Mistake for a
    process that ended without a word.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    level = logging.getLogger("issl_engine").getEffectiveLevel()
    pool = ProcessPoolExecutor(
        min(jobs, max(1, len(work))), mp_context=multiprocessing.get_context("spawn"), initializer=_begin,
        initargs=(os.getpid(), threads, max(level, logging.WARNING)),
    )  # fmt: skip
    try:
        places = {pool.submit(_run, one): place for place, one in enumerate(work)}
        for future in as_completed(places):
            yield places[future], future.result()
    except BrokenProcessPool as error:
        raise Mistake(
            "a process of the search ended without a word (killed, or out of memory); lower --jobs, and run the same "
            "command again to go on"
        ) from error
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # one that trains saves first; idle ones end
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int, threads: int, level: int) -> None:
    os.environ[PARENT] = str(parent)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on as SIGTERM
    import torch

    torch.set_num_threads(threads)
    log = logging.getLogger("issl_engine")
    log.setLevel(level)
    log.addHandler(logging.StreamHandler(sys.stderr))


def _run(one: Work) -> Outcome:
    from issl_engine.ranks import start_ranks
    from issl_engine.search.trial_run import run_trial

    arm, recipe, folder, command = one
    with sigterm_interrupts():
        outcome = run_trial(arm, recipe, folder, start_ranks(), command=command)
    assert outcome is not None
    return outcome
