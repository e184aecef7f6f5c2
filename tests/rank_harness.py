"""Runs a test's function on several ranks, or in one fresh process: with a time limit, their results and their logs.

A process imports what the function needs and, while it has no thread beside its own, forks the ranks: they begin at
once, on CPUs, and meet as a launcher's ranks do. Tests get it by the fixtures ``run_ranks`` and ``run_alone``.

Run as a program, this file is that process. usage: rank_harness.py FOLDER SECONDS
"""

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from issl_engine.launch.addresses import free_port
from issl_engine.launch.hosts import Host, place_ranks
from issl_engine.launch.rank_environment import environment_of_rank
from issl_engine.ranks import start_ranks

LOG_CHARACTERS = 4000
"""So many of a rank's log are shown where it fails: the last."""
PATIENCE_SECONDS = 5.0
"""For the other ranks to end by themselves, and to say why, once one has failed."""
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What an engine in the tests' own process leaves in its environment."""


@dataclass(frozen=True)
class Request:
    """``work`` with ``arguments``, on so many ranks, whose Ranks come first; 0: in the process itself, without."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    world_size: int


def run_ranks(
    work: Callable[..., Any], *arguments: Any, world_size: int = 2, folder: Path, limit_seconds: float = 120.0
) -> list[Any]:
    """What ``work(ranks, *arguments)`` returned on each rank, in their order.

    ``work`` is a function at the top of a test's module; it, the arguments and the results are pickled. ``folder``, an
    empty one, gets logs and results. Fails with all logs where a rank fails or is not done in time.
    """
    _run(Request(work, arguments, world_size), folder, limit_seconds)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(world_size)]


def run_alone(work: Callable[..., Any], *arguments: Any, folder: Path, limit_seconds: float = 120.0) -> Any:
    """What ``work(*arguments)`` returned in a process of one thread, which may fork."""
    _run(Request(work, arguments, 0), folder, limit_seconds)
    return torch.load(folder / "alone.pt", weights_only=False)


def fork(log: Path, work: Callable[[], object]) -> int:
    """The process id of a child that does ``work``, with its output in ``log``; it ends with exit code 0 or 1, or as
    ``work`` asks by sys.exit."""
    assert len(os.listdir("/proc/self/task")) == 1, "only a process with one thread may fork"
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except SystemExit:
        raise  # Python then ends as it does after a command
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_for_end(children: set[int], seconds: float, *, first_failure: bool = False) -> dict[int, int]:
    """Exit codes (negative for a signal) of those that end within that time; with ``first_failure`` returns as soon as
    one has failed."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while children - ended.keys() and time.monotonic() < deadline:
        for child in children - ended.keys():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ended[child] = os.waitstatus_to_exitcode(status)
        if first_failure and any(ended.values()):
            break
        time.sleep(0.01)
    return ended


def rank_environment(world_size: int, port: int) -> list[dict[str, str]]:
    """The variables by which a launcher on this machine says to each of its ranks where it is."""
    places = place_ranks([Host(name="localhost", slots=world_size)])
    return [
        environment_of_rank(place, master_address="127.0.0.1", master_port=port, num_cores=world_size)
        for place in places
    ]


def _run(request: Request, folder: Path, limit_seconds: float) -> None:
    (folder / "request.pkl").write_bytes(pickle.dumps(request.__dict__))
    environment = {name: value for name, value in os.environ.items() if name not in PLACE}
    # A numerical library's pool of threads, made as it is imported, would keep the process from forking.
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-P", __file__, str(folder), str(limit_seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-(request.world_size + 1) * LOG_CHARACTERS :]


def _be_rank(request: Request, variables: dict[str, str], result: Path, limit_seconds: float) -> None:
    signal.alarm(int(limit_seconds) + 10)  # a rank that hangs ends by itself, whatever became of its parent
    os.environ.update(variables)
    ranks = start_ranks()
    torch.save(request.work(ranks, *request.arguments), result)
    ranks.barrier()  # the first keeps the store by which they speak
    dist.destroy_process_group()


def _be_all_ranks(request: Request, folder: Path, limit_seconds: float) -> None:
    logs = [folder / f"rank{rank}.log" for rank in range(request.world_size)]
    children = [
        fork(log, partial(_be_rank, request, variables, log.with_suffix(".pt"), limit_seconds))
        for log, variables in zip(logs, rank_environment(request.world_size, free_port()), strict=True)
    ]
    codes = wait_for_end(set(children), limit_seconds, first_failure=True)
    if any(codes.values()):
        codes |= wait_for_end(set(children) - codes.keys(), PATIENCE_SECONDS)
    for child in set(children) - codes.keys():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if any(codes.get(child) != 0 for child in children):
        _fail([codes.get(child) for child in children], logs, limit_seconds)


def _fail(codes: list[int | None], logs: list[Path], limit_seconds: float) -> NoReturn:
    for rank, (code, log) in enumerate(zip(codes, logs, strict=True)):
        end = f"was ended after {limit_seconds:g} s or with the others" if code is None else f"ended with {code}"
        print(f"--- rank {rank} {end}; its log:\n{log.read_text()[-LOG_CHARACTERS:]}", file=sys.stderr)
    sys.exit(1)


def main(folder: Path, limit_seconds: float) -> None:
    # pytest names modules by their place below the root; so that pickles find them here, whatever else is called tests.
    package = sys.modules["tests"] = ModuleType("tests")
    package.__path__ = [str(Path(__file__).parent)]
    signal.alarm(int(limit_seconds) + 60)
    request = Request(**pickle.loads((folder / "request.pkl").read_bytes()))
    if request.world_size:
        _be_all_ranks(request, folder, limit_seconds)
    else:
        torch.save(request.work(*request.arguments), folder / "alone.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
