"""The supervisor names the rank that failed, once, ends the others, and leaves nothing behind when it is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from issl_engine.launch import supervisor
from issl_engine.launch.local_ranks import LocalRanks
from issl_engine.launch.supervisor import Outcome, supervise

from .conftest import START, is_running, wait_for

Start = Callable[..., LocalRanks]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SETTLE_SECONDS", 0.4)
    monkeypatch.setattr(supervisor, "TERMINATE_SECONDS", 0.4)


def test_all_went_well(start: Start) -> None:
    assert supervise([start("")], 2) == Outcome(exit_code=0, message=None)


def test_the_cause_is_named_and_not_what_followed_from_it(start: Start) -> None:
    ranks = start("""
if rank == 0:
    report("connection", "lost the connection to another rank")
time.sleep(0.2)
report("mistake", "the disk is full")
""")
    assert supervise([ranks], 2) == Outcome(exit_code=1, message="rank 1 on here: the disk is full")


def test_a_rank_that_is_killed_is_named_and_the_others_are_ended(start: Start, tmp_path: Path) -> None:
    ranks = start("""
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as if it hung in a collective
Path(os.environ["ISSL_RANK_LOG"]).with_name("pid").write_text(str(os.getpid()))
time.sleep(60)
""")
    wait_for(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    began = time.monotonic()
    outcome = supervise([ranks], 2)
    assert time.monotonic() - began < 5
    assert outcome.exit_code == 1
    assert outcome.message is not None
    assert outcome.message.startswith("rank 1 on here: killed by SIGKILL")
    assert str(tmp_path / "rank1.log") in outcome.message
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_what_the_supervisor_ends_is_no_failure(start: Start) -> None:
    outcome = supervise([start("time.sleep(0.3 * (1 - rank)); report('defect', 'bug') if rank else time.sleep(60)")], 2)
    assert outcome == Outcome(exit_code=1, message="rank 1 on here: bug")


def test_a_rank_that_the_supervisor_ends_is_no_cause_of_a_broken_connection(start: Start) -> None:
    outcome = supervise([start("time.sleep(60) if rank else report('connection', 'lost the connection')")], 2)
    assert outcome == Outcome(exit_code=1, message="rank 0 on here: lost the connection")


def test_ctrl_c_reaches_ranks_by_way_of_the_supervisor_alone(start: Start, tmp_path: Path) -> None:
    supervise([start("Path(os.environ['ISSL_RANK_LOG'] + '.group').write_text(str(os.getpgrp()))")], 2)
    groups = {int(path.read_text()) for path in tmp_path.glob("*.group")}
    assert len(groups) == 2
    assert os.getpgrp() not in groups


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_and_reported_once(number: int, start: Start, tmp_path: Path) -> None:
    ranks = start("""
def stop(number, frame):
    report("interrupted", f"stopped by {signal.Signals(number).name}; saved", 75)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
Path(os.environ["ISSL_RANK_LOG"] + ".ready").touch()
time.sleep(60)
""")
    wait_for(lambda: len(list(tmp_path.glob("*.ready"))) == 2)
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    assert supervise([ranks], 2) == Outcome(
        exit_code=75, message=f"stopped by {signal.Signals(number).name}; saved"
    )  # fmt: skip


def test_a_stop_before_training_is_no_failure(start: Start) -> None:
    ranks = start("time.sleep(60)")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    outcome = supervise([ranks], 2)
    assert outcome.exit_code == 75
    assert outcome.message is not None
    assert "stopped by SIGTERM before anything new could be saved" in outcome.message


def test_a_failure_after_a_stop_is_a_failure(start: Start, tmp_path: Path) -> None:
    ranks = start("""
def stop(number, frame):
    report("mistake", "the disk is full") if rank else report("interrupted", "stopped; saved", 75)
signal.signal(signal.SIGTERM, stop)
Path(os.environ["ISSL_RANK_LOG"] + ".ready").touch()
time.sleep(60)
""")
    wait_for(lambda: len(list(tmp_path.glob("*.ready"))) == 2)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert supervise([ranks], 2) == Outcome(exit_code=1, message="rank 1 on here: the disk is full")


def test_three_signals_end_ranks_that_do_not_stop(start: Start) -> None:
    ranks = start("signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)")
    for delay in (0.5, 0.6, 0.7):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert supervise([ranks], 2).exit_code == 75


def test_logs_hold_what_ranks_write_and_keep_what_was_there(start: Start, tmp_path: Path) -> None:
    (tmp_path / "rank1.log").write_text("an earlier run\n")
    supervise([start("print('out', rank); print('err', rank, file=sys.stderr)")], 2)
    lines = (tmp_path / "rank1.log").read_text().splitlines()
    assert lines[0] == "an earlier run"
    assert "rank 1 starts" in lines[1]
    assert sorted(lines[2:]) == ["err 1", "out 1"]


def test_logs_that_cannot_be_written(start: Start, tmp_path: Path) -> None:
    (tmp_path / "rank1.log").mkdir()
    with pytest.raises(
        ValueError, match=r"rank1.log: the logs of the ranks cannot be written there \(Is a directory\)"
    ):
        start("time.sleep(60)")


def test_killing_the_supervisor_leaves_no_rank(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from issl_engine.launch.hosts import Host, place_ranks
from issl_engine.launch.local_ranks import LocalRanks
from issl_engine.launch.supervisor import supervise
import sys
start = {START!r} + "Path(os.environ['ISSL_RANK_LOG'] + '.pid').write_text(str(os.getpid())); time.sleep(60)"
ranks = LocalRanks([sys.executable, "-c", start], place_ranks([Host(name="here", slots=2)]),
                   master_address="127.0.0.1", master_port=1, logs=Path({str(tmp_path)!r}))
supervise([ranks], 2)
"""
    process = subprocess.Popen([sys.executable, "-c", program])

    def ids() -> list[str]:
        return [path.read_text() for path in tmp_path.glob("*.pid")]

    wait_for(lambda: len(ids()) == 2 and all(ids()))
    ranks = [int(text) for text in ids()]
    assert all(map(is_running, ranks))
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(is_running, ranks)), seconds=2)
