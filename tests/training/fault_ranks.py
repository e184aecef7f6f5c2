"""Kills ranks while they train, restarts them, and says what came of it: what test_faults.py runs alone in a process.

That process forks the ranks of each start. A rank reports through a pipe whenever it comes to a moment of interest, by
functions that are patched here; at the chosen one it waits a while inside, or goes on, and its parent kills it at a
random time after.
"""

import json
import os
import random
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import load_file

import issl_engine.training.checkpoints.keep as keeping
import issl_engine.training.checkpoints.writer as writing
from issl_engine.launch.addresses import free_port
from issl_engine.loading import TrainingViews
from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints.verify import latest_checkpoint, verify_checkpoint
from issl_engine.training.learner import Learner
from issl_engine.training.pretrain import pretrain

from ..rank_harness import fork, rank_environment, wait_for_end
from .conftest import make_images, make_recipe

WORLD_SIZE = 2
KINDS = ("forward", "all-reduce", "checkpoint", "epoch")
MOMENTS = {"forward": 14, "all-reduce": 14, "checkpoint": 24, "epoch": 2}
"""Of each kind a rank comes to at least so many in a whole run; the victim is killed at one of them."""
LATE_MOMENTS = {"forward": 12, "all-reduce": 36, "checkpoint": 24, "epoch": 1}
HOLD_SECONDS = 10.0
LONGEST_DELAY_SECONDS = 0.05
PATIENCE_SECONDS = 4.0
"""For the survivors to end by themselves; then they are stopped, as a launcher would."""
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Try:
    """One run with ``kills`` interruptions; ``kind`` is the first one's, those after it are drawn with the seed. With
    ``late`` the first comes when there is a checkpoint already (without ZeRO)."""

    seed: int
    kind: str
    zero_stage: int = 0
    both: bool = False
    kills: int = 1
    late: bool = False


@dataclass
class Outcome:
    """``killed``: (kind, place, rank, after which step the run had saved) of each kill; ``ended``: how many survivors
    ended by themselves, and ``stopped`` not; ``unequal``: what differs from the run without kills."""

    killed: list[tuple[str, str, int, int]]
    ended: int
    stopped: int
    unequal: list[str]
    seconds: float


def recipe_of(zero_stage: int) -> Any:
    """15 steps of 3 epochs, a checkpoint every second."""
    return make_recipe(
        optimizer={"name": "adamw", "lr": 0.003}, checkpoint={"every_epochs": 0.4, "keep": 2},
        deepspeed={"zero_stage": zero_stage},
        training={"epochs": 3, "global_batch_size": 8, "log_every_steps": 1, "threads": 1, "watchdog_seconds": 20},
    )  # fmt: skip


def install_moments(report: Callable[[str, str], None]) -> None:
    """From now on ``report(kind, place)`` is called at each moment, before the patched function does its work."""

    def patch(owner: Any, name: str, kind: str, only: Callable[..., bool] = lambda *_, **__: True) -> None:
        work = getattr(owner, name)

        def reported(*args: Any, **named: Any) -> Any:
            if only(*args, **named):
                report(kind, f"{getattr(owner, '__name__', owner)}.{name}")
            return work(*args, **named)

        setattr(owner, name, reported)

    patch(Learner, "forward", "forward")
    patch(dist, "all_reduce", "all-reduce")
    for name in ("write_tensor_file", "sync", "publish"):
        patch(writing, name, "checkpoint")
    patch(writing.os, "fsync", "checkpoint")
    patch(keeping, "discard", "checkpoint")
    patch(TrainingViews, "__next__", "epoch", lambda views: views.batches_consumed % views.batches_per_epoch == 0)


def run_rank(
    variables: dict[str, str], folder: Path, zero_stage: int, plan: tuple[str, int, bool] | None, pipe: int
) -> None:
    """What a rank does, in a process of its own. ``plan``: kind of the moment at which it is to be killed, its number
    from 0, and whether the rank waits for that there."""
    os.environ |= variables
    count = 0

    def report(kind: str, place: str) -> None:
        nonlocal count
        if plan is None or kind != plan[0]:
            return
        count += 1
        if count == plan[1] + 1:
            os.write(pipe, f"{place}\n".encode())
            if plan[2]:
                time.sleep(HOLD_SECONDS)

    install_moments(report)
    ranks = start_ranks(timeout_seconds=60)
    dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
    pretrain(recipe_of(zero_stage), dataset, ranks, folder=folder, seed=3)


class Trials:
    """Runs tries in ``folder``; the runs that they are compared with are made once a ZeRO stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole: dict[int, Path] = {}

    def start(self, run: Path, zero_stage: int, plans: dict[int, tuple[str, int, bool]]) -> tuple[list[int], int]:
        """The ranks' process ids, and where to read of the moments that the ``plans`` of ranks name."""
        run.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe()
        children = []
        for rank, variables in enumerate(rank_environment(WORLD_SIZE, free_port())):
            work = partial(run_rank, variables, run, zero_stage, plans.get(rank), write)
            children.append(fork(run / f"rank{rank}.log", work))
        os.close(write)
        return children, read

    def finish(self, run: Path, zero_stage: int) -> Path:
        """Starts the ranks, lets them train to the end and returns the last checkpoint."""
        children, read = self.start(run, zero_stage, {})
        os.close(read)
        codes = wait_for_end(set(children), LIMIT_SECONDS)
        if any(codes.get(child) != 0 for child in children):
            for child in children:
                if child not in codes:
                    os.kill(child, signal.SIGKILL)
            logs = "\n".join((run / f"rank{rank}.log").read_text()[-2000:] for rank in range(WORLD_SIZE))
            raise AssertionError(f"{run}: the ranks ended with {[codes.get(child) for child in children]}\n{logs}")
        checkpoint = latest_checkpoint(run / "checkpoints")
        assert checkpoint is not None
        return checkpoint

    def try_it(self, case: Try) -> Outcome:
        began, random_ = time.perf_counter(), random.Random(case.seed)
        if case.zero_stage not in self.whole:
            self.whole[case.zero_stage] = self.finish(self.folder / f"whole{case.zero_stage}", case.zero_stage)
        run = self.folder / f"seed{case.seed} {case.kind} zero{case.zero_stage}{' both' if case.both else ''}"
        outcome = Outcome(killed=[], ended=0, stopped=0, unequal=[], seconds=0.0)
        for number in range(case.kills):
            kind = case.kind if number == 0 else random_.choice(KINDS)
            self.kill_once(run, case, kind, random_, outcome)
        last = self.finish(run, case.zero_stage)
        outcome.unequal = differences(self.whole[case.zero_stage], last)
        outcome.seconds = round(time.perf_counter() - began, 1)
        return outcome

    def kill_once(self, run: Path, case: Try, kind: str, random_: random.Random, outcome: Outcome) -> None:
        victim, hold = random_.randrange(WORLD_SIZE), random_.random() < 0.5
        moment = random_.randrange(MOMENTS[kind] if not outcome.killed else 2)
        if case.late and not outcome.killed:
            moment = LATE_MOMENTS[kind]
        children, read = self.start(run, case.zero_stage, {victim: (kind, moment, hold)})
        place = read_line(read)
        os.close(read)
        if place is None:
            raise AssertionError(f"{run}: rank {victim} never came to {kind} number {moment}")
        time.sleep(random_.random() * LONGEST_DELAY_SECONDS)
        doomed = set(children) if case.both else {children[victim]}
        for child in doomed:
            os.kill(child, signal.SIGKILL)
        ended = wait_for_end(set(children), PATIENCE_SECONDS)
        survivors = set(children) - doomed
        outcome.ended += len(survivors & ended.keys())
        for child in set(children) - ended.keys():
            outcome.stopped += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        outcome.killed.append((kind, place, victim, saved_step(run)))


def read_line(pipe: int) -> str | None:
    """The place that a rank reports, or None where all ranks ended without a word."""
    ready, _, _ = select.select([pipe], [], [], LIMIT_SECONDS)
    return (os.read(pipe, 200).decode().partition("\n")[0] or None) if ready else None


def saved_step(run: Path) -> int:
    """The step of the newest whole checkpoint, 0 without one: as a restart will find it."""
    found = latest_checkpoint(run / "checkpoints")
    return 0 if found is None else verify_checkpoint(found).step


def differences(whole: Path, resumed: Path) -> list[str]:
    """Files of the last checkpoint and losses of lines that differ in any bit."""
    names = sorted(path.name for path in whole.glob("*.safetensors"))
    assert len(names) >= 7, names  # encoder, learner, online probe, and two of each rank
    unequal = [name for name in names if not same_tensors(whole / name, resumed / name)]
    lines = [
        [{key: line[key] for key in ("step", "loss", "lr", "online_top1")} for line in read_lines(checkpoint)]
        for checkpoint in (whole, resumed)
    ]
    assert len(lines[0]) == 15
    return unequal + ([] if lines[0] == lines[1] else ["metrics.jsonl"])


def same_tensors(one: Path, other: Path) -> bool:
    """Same names, types, shapes and bits; their order in the file is free."""
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and a[name].equal(b[name]) for name in a)


def read_lines(checkpoint: Path) -> list[dict[str, Any]]:
    text = (checkpoint.parent.parent / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def try_all(folder: Path, tries: list[Try]) -> list[Outcome]:
    """Each in turn."""
    trials = Trials(folder)
    return [trials.try_it(one) for one in tries]
