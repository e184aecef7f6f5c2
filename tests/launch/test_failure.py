"""Of several failures the cause is named, once; broken connections follow from something else."""

import subprocess
import sys

import pytest
import torch

from issl_engine.launch.failure import Failure, Kind, describe, root_cause, sentence_of_exit
from issl_engine.launch.hosts import Place
from issl_engine.launch.rank_failure import failure_of
from issl_engine.mistakes import Mistake
from issl_engine.ranks import RanksDidNotMeet
from issl_engine.training.watch.interruption import Interrupted


def failure(rank: int, time: float, kind: Kind = "mistake", sentence: str = "the disk is full") -> Failure:
    return Failure(rank=rank, host=f"host{rank // 2}", time=time, kind=kind, sentence=sentence)


def test_the_earliest_is_the_cause() -> None:
    assert root_cause([failure(0, 2.0), failure(1, 1.0), failure(2, 3.0)]).rank == 1


def test_a_broken_connection_is_no_cause_even_when_it_is_earliest() -> None:
    assert (
        root_cause([failure(0, 1.0, "connection"), failure(1, 2.0, "ended"), failure(2, 1.5, "interrupted")]).rank == 1
    )


def test_where_all_connections_broke_the_earliest_is_named() -> None:
    assert root_cause([failure(0, 2.0, "connection"), failure(1, 1.0, "connection")]).rank == 1


def test_rank_and_host_are_named() -> None:
    cause = failure(3, 1.0)
    assert describe(cause, [cause, failure(0, 2.0, "connection", "lost")], 4) == "rank 3 on host1: the disk is full"


def test_ranks_that_say_the_same_are_named_together() -> None:
    both = [failure(2, 1.0), failure(0, 2.0)]
    assert describe(both[0], both, 4) == "ranks 0, 2 on host0, host1: the disk is full"


def test_what_all_ranks_say_needs_no_names() -> None:
    assert describe(failure(0, 1.0), [failure(0, 1.0), failure(1, 2.0)], 2) == "the disk is full"


def test_a_failure_survives_its_way_through_a_pipe() -> None:
    sent = failure(1, 12.5, sentence="line 1\nline 2: ünïcode")
    line = sent.as_line()
    assert line.count("\n") == 1
    assert Failure.from_line(line) == sent


def test_an_end_without_a_word_is_explained() -> None:
    assert sentence_of_exit(-9, "log") == (
        "killed by SIGKILL (the system does so when memory runs out); its last lines are in log"
    )
    assert sentence_of_exit(-11, "log").startswith("killed by SIGSEGV; ")
    assert sentence_of_exit(3, "log") == "ended with exit code 3; its last lines are in log"


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (Mistake("the source is empty"), "mistake", "the source is empty"),
        (ValueError("shapes do not match"), "defect", "ValueError: shapes do not match"),
        (OSError(28, "No space left"), "defect", "OSError: [Errno 28] No space left"),
        (FileNotFoundError(2, "No such file", "x.jpg"), "mistake", "x.jpg: No such file"),
        (ZeroDivisionError("division by zero"), "defect", "ZeroDivisionError: division by zero"),
        (Interrupted("stopped at step 3"), "interrupted", "stopped at step 3"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:7"), "connection", "lost the"),
        (BrokenPipeError(32, "Broken pipe"), "mistake", "Broken pipe"),  # stdout was closed, and no rank is at fault
        (RanksDidNotMeet("the 2 ranks did not meet"), "connection", "the 2 ranks did not meet"),
        (torch.distributed.DistBackendError("NCCL error"), "connection", "lost the connection"),
        (RuntimeError("shapes do not match"), "defect", "RuntimeError: shapes do not match"),
    ],
)
def test_an_exception_says_what_kind_of_end_it_is(error: Exception, kind: Kind, sentence: str) -> None:
    place = Place(rank=1, world_size=2, local_rank=1, local_world_size=2, host="b")
    found = failure_of(error, place)
    assert (found.rank, found.host, found.kind) == (1, "b", kind)
    assert found.sentence.startswith(sentence)


WAITING = """
import json, time
from dataclasses import asdict
import torch.distributed as dist
from issl_engine.launch import rank_failure
from issl_engine.launch.failure import Failure

rank_failure.NOTICE_SECONDS = 0.2
store = dist.HashStore()
with rank_failure.failures_reported_once() as failures:
    failures.meet(store)
    cause = Failure(rank=1, host="b", time=1.0, kind=KIND, sentence="the disk is full")
    store.set(rank_failure.KEY, json.dumps(asdict(cause)))
    time.sleep(60)  # as in a collective that never ends
"""


@pytest.mark.parametrize(
    ("kind", "code", "words"), [("mistake", 1, "rank 0 stops because of rank 1 on b\n"), ("interrupted", 75, "")]
)
def test_without_a_supervisor_a_rank_that_waits_for_a_failed_one_ends(
    kind: Kind, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "9")):
        monkeypatch.setenv(name, value)
    program = WAITING.replace("KIND", repr(kind))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=40)
    assert (done.returncode, done.stderr) == (code, words)
