"""Ranks that hang, are stopped or never begin are named; one that is merely slow ends nothing.

The ranks are threads of this process, or small ones of their own where a process has to be stopped.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch.distributed as dist

from issl_engine.training.watch import process_end
from issl_engine.training.watch import watchdog as module
from issl_engine.training.watch.hang import Beat, describe_hang
from issl_engine.training.watch.heartbeat import Heartbeat, Phase
from issl_engine.training.watch.watchdog import HUNG_EXIT_CODE, Watchdog

Process: TypeAlias = "subprocess.Popen[str]"
Pair = Callable[[float], list[Process]]

SECONDS = 0.6

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the ends below


class Rank:
    """A watched rank that is a thread: where it is, and what its watchdog said."""

    def __init__(self, rank: int, world_size: int, store: dist.Store | None) -> None:
        self.heartbeat = Heartbeat()
        self.reported: list[str] = []
        self.ended = threading.Event()
        self.watchdog = Watchdog(
            self.heartbeat, seconds=SECONDS, rank=rank, world_size=world_size, host=f"host{rank}", store=store,
            last_checkpoint=lambda: Path("run/step_00000100"), on_hung=self.reported.append,
        )  # fmt: skip


@contextmanager
def watched(world_size: int, monkeypatch: pytest.MonkeyPatch, *, begun: int | None = None) -> Iterator[list[Rank]]:
    """So many ranks over one store, of which the first ``begun`` are watched, or all. Where a rank would end its
    process, its watching thread ends instead."""
    store = dist.HashStore() if world_size > 1 else None
    monkeypatch.setattr(module, "_generations", iter([0] * world_size))  # in processes of their own, each counts from 0
    ranks = [Rank(rank, world_size, store) for rank in range(world_size)]
    by_thread = {rank.watchdog._threads[0]: rank for rank in ranks}

    def end(code: int) -> None:
        assert code == HUNG_EXIT_CODE
        by_thread[threading.current_thread()].ended.set()
        raise SystemExit

    monkeypatch.setattr(process_end.os, "_exit", end)
    monkeypatch.setattr(process_end.logging, "shutdown", lambda: None)
    monkeypatch.setattr(process_end, "REPORT_SECONDS", 3600.0)
    with ExitStack() as stack:
        for rank in ranks[:begun]:
            stack.enter_context(rank.watchdog)
        yield ranks


def test_a_rank_that_hangs_in_data_is_named_with_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(3, monkeypatch) as ranks:
        for number, rank in enumerate(ranks):
            rank.heartbeat.enter("step", 120)
            rank.heartbeat.enter("data")
            if number != 1:
                rank.heartbeat.enter("step")
        for rank in ranks:
            assert rank.ended.wait(4 * SECONDS)
    for rank in ranks:
        (sentence,) = rank.reported
        assert sentence.startswith("rank 1 on host host1 has been in 'data' of step 120 for over 0.6 s, at ")
        assert "; the others wait for it; nothing has moved for 0.6 s (training.watchdog_seconds)" in sentence
        assert sentence.endswith("the last checkpoint is run/step_00000100; the same command goes on from there")


def test_it_takes_its_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(1, monkeypatch) as (rank,):
        rank.heartbeat.enter("data", 7)
        stopped = time.monotonic()
        assert rank.ended.wait(4 * SECONDS)
        assert SECONDS <= time.monotonic() - stopped < 2 * SECONDS
    assert rank.reported[0].startswith("training has been in 'data' of step 7 for over 0.6 s, at ")


def test_ranks_that_move_slowly_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(2, monkeypatch) as ranks:
        for step in range(5):
            for rank in ranks:
                rank.heartbeat.enter("step", step)
            time.sleep(0.6 * SECONDS)
        assert not any(rank.reported for rank in ranks)


def test_one_that_waits_for_a_rank_at_work_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(2, monkeypatch) as ranks:
        ranks[0].heartbeat.enter("checkpoint", 3)
        for _ in range(4):  # such as rank 1 on its way through the phases of a long step
            ranks[1].heartbeat.enter("data", 3)
            time.sleep(0.6 * SECONDS)
        assert not any(rank.reported for rank in ranks)


def test_a_rank_that_never_begins_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(2, monkeypatch, begun=1) as (first, _):
        assert first.ended.wait(4 * SECONDS)
    assert first.reported[0].startswith("rank 1 has not begun training for over 0.6 s; the others wait for it")


def test_a_rank_that_has_left_the_loop_is_not_taken_for_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(2, monkeypatch) as ranks:
        for rank in ranks:
            rank.heartbeat.enter("checkpoint", 9)
        ranks[0].heartbeat.enter("end")
        ranks[0].watchdog.__exit__(None, None, None)
        assert ranks[1].ended.wait(4 * SECONDS)
    assert ranks[1].reported[0].startswith("rank 1 on host host1 has been in 'checkpoint' of step 9")
    assert ranks[0].reported == []


def test_zero_turns_it_off() -> None:
    before = threading.active_count()
    with Watchdog(
        Heartbeat(), seconds=0, rank=0, world_size=1, host="here", store=None, last_checkpoint=lambda: None
    ):  # fmt: skip
        assert threading.active_count() == before


def beat(count: int, phase: Phase = "step", **changes: Any) -> Beat:
    fields: dict[str, Any] = {
        "host": "a", "count": count, "step": 4, "phase": phase, "seconds": 600.0, "beats": 1,
        "line": "step.py:61 train_step",
    }  # fmt: skip
    return Beat(**(fields | changes))


@pytest.mark.parametrize(
    ("beats", "silent", "sentence"),
    [
        (
            {0: beat(9), 1: beat(9, line="collectives.py:40 all_gather")},
            set(),
            "ranks 0, 1 on host a have been in 'step' of step 4 for over 600 s, at step.py:61 train_step (rank 0), "
            "collectives.py:40 all_gather (rank 1)",
        ),
        (
            {0: beat(9), 1: beat(9, host="b"), 2: beat(9)},
            {1},
            "rank 1 on host b has not been heard of (stopped, or the host is out of reach), last in 'step' of step 4; "
            "the others wait for it",
        ),
        (
            {0: beat(9), 1: beat(7, "data", host="b"), 2: beat(7, "data", host="c")},
            set(),
            "ranks 1, 2 on hosts b, c have been in 'data' of step 4 for over 600 s, at step.py:61 train_step; the "
            "others wait for them",
        ),
        ({0: beat(0, "start"), 1: beat(0, "start")}, set(), "ranks 0, 1 on host a have been in starting"),
    ],
)
def test_what_is_said(beats: dict[int, Beat], silent: set[int], sentence: str) -> None:
    said = describe_hang(beats, silent, len(beats), 600)
    assert said == sentence if "starting" not in sentence else said.startswith("ranks 0, 1 on host a have")


PROGRAM = """
import os, sys, time
from datetime import timedelta
import torch, torch.distributed as dist
from issl_engine.training.watch.heartbeat import Heartbeat
from issl_engine.training.watch.watchdog import Watchdog

rank, port, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
store = dist.TCPStore("127.0.0.1", port, 2, rank == 0, timeout=timedelta(seconds=60))
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
heartbeat = Heartbeat()
with Watchdog(heartbeat, seconds=seconds, rank=rank, world_size=2, host=f"host{rank}", store=store,
              last_checkpoint=lambda: None, on_hung=lambda sentence: print(sentence, flush=True)):
    for step in range(1, 10**6):
        heartbeat.enter("step", step)
        dist.all_reduce(torch.ones(1))
        if step == 20:
            print("trains", flush=True)
        time.sleep(0.01)
"""


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Starts two ranks that all-reduce for ever, with a watchdog of so many seconds; returns once both do."""
    started: list[Process] = []

    def start(seconds: float) -> list[Process]:
        port = 20000 + (os.getpid() * 7 + 3) % 20000
        for rank in range(2):
            command = [sys.executable, "-c", PROGRAM, str(rank), str(port), str(seconds)]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "trains\n"
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stopped", [1, pytest.param(0, marks=pytest.mark.long)])
def test_a_stopped_process_is_reported_by_one_stuck_in_a_collective(stopped: int, pair: Pair) -> None:
    ranks = pair(1.0)
    ranks[stopped].send_signal(signal.SIGSTOP)
    left = ranks[1 - stopped]
    out, _ = left.communicate(timeout=20)
    assert left.returncode == HUNG_EXIT_CODE
    if stopped == 1:
        assert out.startswith("rank 1 on host host1 has not been heard of (stopped, or the host is out of reach), last")
    else:  # it keeps the store
        assert out.startswith("rank 1 on host host1 has been in 'step' of step ")
        assert "rank 0, by which ranks hear of each other, is stopped or its host is out of reach" in out
