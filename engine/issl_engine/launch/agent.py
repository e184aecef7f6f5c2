"""The supervisor's hand on another host: ``python -m issl_engine.launch.agent FIRST_HOST``, started by a remote shell.

Starts and watches this host's ranks, and ends them when its stdin ends: then the supervisor, or the way to it, is gone.
"""

import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TextIO

from issl_engine.launch.addresses import free_port, resolve
from issl_engine.launch.hosts import Place
from issl_engine.launch.local_ranks import LocalRanks, rank_command
from issl_engine.launch.messages import Message, Output, RankEnded, Ready, Refused, Signal, Start, from_line, to_line
from issl_engine.launch.supervisor import POLL_SECONDS
from issl_engine.mistakes import is_mistake, sentence_of

_sending = threading.Lock()


def main(first_host: str) -> None:
    """Returns when all ranks have ended, or when the supervisor has."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave_to_supervisor)
    heard: queue.Queue[Message | None] = queue.Queue()
    threading.Thread(target=_hear, args=(sys.stdin, heard), daemon=True).start()
    try:
        _send(Ready(first_address=resolve(first_host), free_port=free_port(), time=time.time()))
        start = heard.get()
        if isinstance(start, Start):
            _run(start, heard)
    except Exception as error:
        if not is_mistake(error):
            raise
        _send(Refused(sentence=sentence_of(error)))


def _leave_to_supervisor(number: int, frame: FrameType | None) -> None:
    """It says what is to be done. To ignore the signal would not do: the ranks would ignore it too."""


def _run(start: Start, heard: "queue.Queue[Message | None]") -> None:
    reading, writing = os.pipe()
    ranks = LocalRanks(
        rank_command(start.arguments), [Place(**place) for place in start.places],
        master_address=start.master_address, master_port=start.master_port, logs=Path(start.logs),
        environment=start.environment, first_stdout=writing,
    )  # fmt: skip
    os.close(writing)
    output = threading.Thread(target=_pass_on, args=(reading,), daemon=True)
    output.start()
    try:
        while ranks.alive:
            for ended in ranks.take_ended():
                if ended.rank == 0:
                    output.join(timeout=5)
                failure = asdict(ended.failure) if ended.failure else None
                _send(RankEnded(rank=ended.rank, code=ended.code, failure=failure))
            with suppress(queue.Empty):
                message = heard.get(timeout=POLL_SECONDS)
                if message is None:
                    return
                if isinstance(message, Signal):
                    ranks.send_signal(message.number)
    finally:
        ranks.close()


def _hear(stream: TextIO, heard: "queue.Queue[Message | None]") -> None:
    for line in stream:
        heard.put(from_line(line))
    heard.put(None)


def _pass_on(descriptor: int) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            _send(Output(text=line))


def _send(message: Message) -> None:
    with _sending, suppress(BrokenPipeError):  # the end of stdin says the same
        sys.stdout.write(to_line(message))
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
