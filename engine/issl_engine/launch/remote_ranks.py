"""The ranks of another host, behind a remote shell (ssh) that runs an agent there."""

import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from issl_engine.launch.failure import Failure
from issl_engine.launch.hosts import Place
from issl_engine.launch.local_ranks import Ended
from issl_engine.launch.messages import (
    Message,
    NoMessage,
    Output,
    RankEnded,
    Ready,
    Refused,
    Signal,
    Start,
    from_line,
    to_line,
)
from issl_engine.launch.rank_environment import forwarded_environment
from issl_engine.mistakes import Mistake

UNREACHABLE_EXIT_CODE = 255
"""ssh's own, for a host that it has no connection to; any other is that of the command."""
CLOSING_SECONDS = 5.0
"""For an agent to end its ranks after its stdin was closed, before its remote shell is ended."""


class RemoteRanks:
    """A host's agent from the moment its remote shell is called, and the ranks it starts. Close it."""

    def __init__(self, host: str, *, remote_shell: str, first_host: str) -> None:
        self.host = host
        self._remote_shell = remote_shell
        self._left: set[int] = set()
        self._heard: queue.Queue[Message | None] = queue.Queue()
        self._complaint: list[str] = []
        self._clock_ahead = 0.0
        self._is_ready = threading.Event()
        try:
            self._process = subprocess.Popen(
                [*shlex.split(remote_shell), host, _agent_command(first_host)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                process_group=0,
            )  # fmt: skip
        except OSError as error:
            raise Mistake(
                f"the remote shell '{remote_shell}' cannot be started ({error.strerror}); give another --remote-shell"
            ) from error
        self._threads = [
            threading.Thread(target=self._hear, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._hear_complaints, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_ready(self, deadline: float, connect_timeout_seconds: float) -> Ready:
        """Until ``deadline`` of time.monotonic. Raises Mistake that names the host and says what its shell said."""
        try:
            message = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Mistake(
                f"{self.host}: no answer through '{self._remote_shell}' within {connect_timeout_seconds:g} s"
                f"{self._said()}; check that the host is up, or give it longer with --connect-timeout"
            ) from None
        if isinstance(message, Ready):
            self._clock_ahead = message.time - time.time()
            self._is_ready.set()
            return message
        if isinstance(message, Refused):
            raise Mistake(f"{self.host}: {message.sentence}")
        if self._process.wait() == UNREACHABLE_EXIT_CODE:
            raise Mistake(
                f"{self.host}: cannot be reached through '{self._remote_shell}'{self._said()}; mend the hostfile, or "
                "give another --remote-shell"
            )
        raise Mistake(
            f"{self.host}: '{self._remote_shell}' could not start issl-engine there{self._said()}; it needs the same "
            f"working folder and {sys.executable} as here"
        )

    def start(
        self, arguments: Sequence[str], places: Sequence[Place], *, master_address: str, master_port: int, logs: Path
    ) -> None:
        """Lets the agent start these ranks of ``issl-engine ARGUMENTS``."""
        self._left = {place.rank for place in places}
        self._send(
            Start(
                arguments=list(arguments), places=[asdict(place) for place in places], master_address=master_address,
                master_port=master_port, logs=str(logs), environment=forwarded_environment(),
            )
        )  # fmt: skip

    @property
    def alive(self) -> int:
        return len(self._left)

    def take_ended(self) -> list[Ended]:
        ended: list[Ended] = []
        with suppress(queue.Empty):
            while True:
                message = self._heard.get_nowait()
                if isinstance(message, Output):
                    sys.stdout.write(message.text)
                    sys.stdout.flush()
                elif isinstance(message, RankEnded):
                    self._left.discard(message.rank)
                    ended.append(Ended(rank=message.rank, code=message.code, failure=self._failure(message)))
                elif isinstance(message, Refused):
                    ended += self._all_lost(message.sentence)
                elif message is None and self._left:
                    self._process.wait()
                    ended += self._all_lost(f"the connection to the host broke{self._said()}")
        return ended

    def _failure(self, message: RankEnded) -> Failure | None:
        if message.failure is None:
            return None
        failure = Failure(**message.failure)
        return replace(failure, time=failure.time - self._clock_ahead)  # by this machine's clock

    def _all_lost(self, sentence: str) -> list[Ended]:
        lost = [
            Failure(rank=rank, host=self.host, time=time.time(), kind="ended", sentence=sentence)
            for rank in sorted(self._left)
        ]
        self._left.clear()
        return [Ended(rank=failure.rank, code=1, failure=failure) for failure in lost]

    def send_signal(self, number: int) -> None:
        if self._left:
            self._send(Signal(number=number))

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=CLOSING_SECONDS if self._is_ready.is_set() else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1)
        self._left.clear()

    def _send(self, message: Message) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its end is heard of through its stdout
            self._process.stdin.write(to_line(message))
            self._process.stdin.flush()

    def _hear(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                self._heard.put(from_line(line))
            except NoMessage:
                self._complaint.append(line)  # what the host's start-up files print
        self._heard.put(None)

    def _hear_complaints(self, stream: IO[str]) -> None:
        while text := stream.readline():
            self._complaint.append(text)
            del self._complaint[:-20]
            if self._is_ready.is_set():  # before, it is the remote shell's own message
                sys.stderr.write(text)
                sys.stderr.flush()

    def _said(self) -> str:
        self._threads[1].join(timeout=1 if self._process.poll() is not None else 0)
        said = " ".join(line.strip() for line in self._complaint if line.strip()).rstrip(".")
        return f" ({said})" if said else ""


def _agent_command(first_host: str) -> str:
    """One line for the host's shell: the same folder, interpreter and import path as here."""
    path = os.environ.get("PYTHONPATH")
    variables = ["env", f"PYTHONPATH={path}"] if path else []
    command = shlex.join([*variables, sys.executable, "-m", "issl_engine.launch.agent", first_host])
    return f"cd {shlex.quote(os.getcwd())} && exec {command}"
