"""A search, run or gone on with: trial by trial, each arm's in turn, so that a search that is cut short is still equal.

What lies where in the folder is in ``layout.py``.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from issl_engine.launch.folder_lock import locked_folder
from issl_engine.layout import CHOSEN, trial_folder
from issl_engine.ranks import Ranks
from issl_engine.run.recipe import OnArm
from issl_engine.search.design import Trial
from issl_engine.search.files import write_files, write_trials
from issl_engine.search.outcome import Outcome, read_outcome
from issl_engine.search.plan import SearchPlan, check_record, write_record
from issl_engine.search.processes import run_in_processes
from issl_engine.search.trial_run import run_trial
from issl_engine.training.watch.watchdog import OnHung

_log = logging.getLogger("issl_engine")


def unfinished(out: Path, plan: SearchPlan, arms: list[str]) -> list[Trial]:
    """The trials of these arms that have no outcome yet, in the order in which they are run."""
    return [
        trial
        for number in range(plan.num_trials)
        for trial in (plan.trials[arm][number] for arm in arms)
        if read_outcome(trial_folder(out, trial.arm, number), plan.recipe_of(trial)) is None
    ]


def is_finished(out: Path, plan: SearchPlan, arms: list[str]) -> bool:
    """Whether nothing is left to do: every trial has an outcome, and the chosen recipe is there."""
    return (out / CHOSEN).is_file() and not unfinished(out, plan, arms)


def run_search(
    plan: SearchPlan, arms: list[str], out: Path, *, ranks: Ranks, jobs: int = 1, on_arm: OnArm | None = None,
    on_hung: OnHung | None = None, command: str = "",
) -> None:  # fmt: skip
    """Runs the trials that are missing in ``out``, and writes its files. All ranks work on one trial together; a lone
    process may start ``jobs`` that run a trial each.

    Raises Mistake, and what stops a run (``run_recipe``); an interrupted search goes on where it was.
    """
    with locked_folder(out, ranks, "auto"):
        check_record(out, plan)
        todo = ranks.from_first(unfinished(out, plan, arms) if ranks.is_first else [])
        if ranks.is_first:
            write_record(out, plan, command)
        done = (
            _in_processes(plan, todo, out, jobs, command)
            if jobs > 1
            else _here(plan, todo, out, ranks, on_arm, on_hung, command)
        )
        began = time.perf_counter()
        for count, (trial, outcome) in enumerate(done, start=1):
            if ranks.is_first and outcome is not None:
                _tell(trial, outcome, count, len(todo), time.perf_counter() - began)
                write_trials(out, plan, command)
        if ranks.is_first:
            write_files(out, plan, command)


Done = Iterator[tuple[Trial, Outcome | None]]


def _here(
    plan: SearchPlan, todo: list[Trial], out: Path, ranks: Ranks, on_arm: OnArm | None, on_hung: OnHung | None,
    command: str,
) -> Done:  # fmt: skip
    for trial in todo:
        named = None if on_arm is None else (lambda arm, seed, n=trial.number, on=on_arm: on(f"{arm}, trial {n}", seed))
        yield trial, run_trial(
            trial.arm, plan.recipe_of(trial), trial_folder(out, trial.arm, trial.number), ranks,
            on_arm=named, on_hung=on_hung, command=command,
        )  # fmt: skip


def _in_processes(plan: SearchPlan, todo: list[Trial], out: Path, jobs: int, command: str) -> Done:
    work = [(trial.arm, plan.recipe_of(trial), trial_folder(out, trial.arm, trial.number), command) for trial in todo]
    for place, outcome in run_in_processes(work, jobs):
        yield todo[place], outcome


def _tell(trial: Trial, outcome: Outcome, count: int, total: int, seconds: float) -> None:
    score = "failed" if outcome.score is None else f"{outcome.column.title} {outcome.score.text(outcome.column.digits)}"
    left = seconds / count * (total - count) / 60
    _log.info(
        "%s, trial %d: %s (held out); %d of %d trials done, about %.0f min left",
        trial.arm, trial.number, score, count, total, left,
    )  # fmt: skip
