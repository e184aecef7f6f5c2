"""Ranks that are small programs, so that supervision is tested without loading the engine; and what is left of them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from issl_engine.launch.hosts import Host, place_ranks
from issl_engine.launch.local_ranks import LocalRanks

START = """
import json, os, signal, sys, time
from pathlib import Path
from issl_engine.launch.tied_to_parent import end_with_parent
end_with_parent()
rank = int(os.environ["RANK"])

def report(kind, sentence, code=1):
    line = json.dumps({"rank": rank, "host": os.environ["ISSL_HOST"], "time": time.time(), "kind": kind,
                       "sentence": sentence}) + "\\n"
    os.write(int(os.environ["ISSL_FAILURE_PIPE"]), line.encode())
    os._exit(code)
"""


def rank_program(text: str) -> list[str]:
    """The command line of a rank that does this; ``rank`` and ``report`` are there for it."""
    return [sys.executable, "-c", START + text]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., LocalRanks]:
    """Starts so many ranks of a program, with logs in tmp_path."""

    def started(text: str, num_ranks: int = 2) -> LocalRanks:
        places = place_ranks([Host(name="here", slots=num_ranks)])
        return LocalRanks(rank_program(text), places, master_address="127.0.0.1", master_port=1, logs=tmp_path)

    return started


def wait_for(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Fails when it is not so within that time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def is_running(process_id: int) -> bool:
    """Whether such a process is there and is no zombie."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in this process leaves RANK and the like behind, as DeepSpeed wants them; then no rank can be started."""
    for name in list(os.environ):
        if name in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}:
            monkeypatch.delenv(name)
