"""The ranks of this machine as processes: their logs, their end, and that none outlives its supervisor."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from issl_engine.launch.failure import Failure, sentence_of_exit
from issl_engine.launch.hosts import Place
from issl_engine.launch.rank_environment import FAILURE_PIPE, RANK_LOG, environment_of_rank
from issl_engine.launch.tied_to_parent import PARENT
from issl_engine.mistakes import Mistake

LONGEST_REPORT_BYTES = 60_000
"""Less than a pipe holds, so that a rank never waits for its supervisor."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A rank that is no more. ``failure`` is None where all went well."""

    rank: int
    code: int
    failure: Failure | None


class RankGroup(Protocol):
    """The ranks of one host, as the supervisor sees them."""

    @property
    def alive(self) -> int:
        """How many ranks have not ended yet."""

    def take_ended(self) -> list[Ended]:
        """Ranks that ended since the last call."""

    def send_signal(self, number: int) -> None:
        """To all ranks that live."""

    def close(self) -> None:
        """Ends what still lives, and waits for it."""


class LocalRanks:
    """Ranks of this machine; started by its constructor, which must be called in the main thread.

    Rank 0 shares this process's stderr, and ``first_stdout`` is its stdout (None: this process's own); the other ranks
    write both to ``logs``/rank<k>.log. Raises Mistake when the logs cannot be written.
    """

    def __init__(
        self,
        command: Sequence[str],
        places: Sequence[Place],
        *,
        master_address: str,
        master_port: int,
        logs: Path,
        environment: dict[str, str] | None = None,
        first_stdout: IO[bytes] | int | None = None,
    ) -> None:
        self.logs = logs
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._pipes: dict[int, int] = {}
        self._places = {place.rank: place for place in places}
        num_cores = len(os.sched_getaffinity(0))
        inherited = os.environ | (environment or {}) | {PARENT: str(os.getpid())}
        try:
            logs.mkdir(parents=True, exist_ok=True)
            for place in places:
                own = environment_of_rank(
                    place, master_address=master_address, master_port=master_port, num_cores=num_cores
                )
                self._start(command, place, inherited | own, first_stdout)
        except OSError as error:
            self.close()
            raise Mistake(
                f"{error.filename or logs}: the logs of the ranks cannot be written there ({error.strerror}); choose "
                "another --out"
            ) from error

    def _start(
        self, command: Sequence[str], place: Place, environment: dict[str, str], first_stdout: IO[bytes] | int | None
    ) -> None:
        log = self.logs / f"rank{place.rank}.log"
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._pipes[place.rank] = reading
        try:
            with log.open("ab") as file:  # appended to: what an earlier run says stays
                file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S %z')} rank {place.rank} starts\n".encode())
                file.flush()
                first = place.rank == 0
                self._processes[place.rank] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=first_stdout if first else file,
                    stderr=None if first else file,
                    env=environment | {FAILURE_PIPE: str(writing), RANK_LOG: str(log)},
                    pass_fds=[writing],
                    process_group=0,  # Ctrl-C reaches the supervisor alone, which passes it on
                )
        finally:
            os.close(writing)

    @property
    def alive(self) -> int:
        return len(self._processes)

    def take_ended(self) -> list[Ended]:
        ended: list[Ended] = []
        for rank, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[rank]
            ended.append(Ended(rank=rank, code=code, failure=self._failure(rank, code) if code else None))
            os.close(self._pipes.pop(rank))
        return ended

    def _failure(self, rank: int, code: int) -> Failure:
        with contextlib.suppress(BlockingIOError):  # nothing was written, and a child of the rank holds the pipe
            line = os.read(self._pipes[rank], LONGEST_REPORT_BYTES).decode("utf-8", "replace")
            if line.endswith("\n"):
                return Failure.from_line(line)
        sentence = sentence_of_exit(code, str(self.logs / f"rank{rank}.log"))
        return Failure(rank=rank, host=self._places[rank].host, time=time.time(), kind="ended", sentence=sentence)

    def send_signal(self, number: int) -> None:
        for process in self._processes.values():
            process.send_signal(number)

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()


def rank_command(arguments: Sequence[str]) -> list[str]:
    """This command line again, for a rank."""
    return [sys.executable, "-m", "issl_engine", *arguments]
