"""Ends a run that has stopped moving, and says which rank the others wait for.

Each rank has two threads. Neither touches the device or a collective, and both go on while the main thread waits in one
(gloo, NCCL and DALI let other Python threads run meanwhile):

- one reports to the others where this rank is, and reads where they are. It has a connection to the ranks' store of its
  own: a call on the connection that the process group uses would wait behind the group's calls.
- one judges. It never asks the store, which does not answer when the process that keeps it is stopped.

Each rank goes by its own monotonic clock, so that hosts' clocks need not agree.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType

from torch.distributed import Store  # type: ignore[attr-defined]

from issl_engine.training.watch.hang import Beat, describe_hang
from issl_engine.training.watch.heartbeat import Heartbeat
from issl_engine.training.watch.process_end import end_process

_log = logging.getLogger("issl_engine")

HUNG_EXIT_CODE = 69
"""Exit code of a rank that its watchdog ended: sysexits.h's EX_UNAVAILABLE."""
LOOKS = 20
"""So many looks in the watchdog's time."""

CLOSING_SECONDS = 1.0
"""For a thread to end, which may be waiting for a store that does not answer."""

OnHung = Callable[[str], None]
"""Called with the sentence, in a thread, just before the process ends."""

_generations = count()


@dataclass
class _Seen:
    """The last news of a rank, and when it came by this rank's clock."""

    beat: Beat
    heard: float


class Watchdog:
    """Watches from ``with`` to its end. With ``seconds`` 0 nothing is watched.

    ``store`` None is of a lone process. ``last_checkpoint`` is asked when the run ends.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        *,
        seconds: float,
        rank: int,
        world_size: int,
        host: str,
        store: Store | None,
        last_checkpoint: Callable[[], Path | None],
        on_hung: OnHung | None = None,
    ) -> None:
        self.heartbeat, self.seconds = heartbeat, seconds
        self.rank, self.world_size, self.host = rank, world_size, host
        self.last_checkpoint, self.on_hung = last_checkpoint, on_hung or _log_error
        self._store = None if store is None or seconds == 0 else store.clone()  # type: ignore[attr-defined]
        # Ranks watch equally often, so that what they reported in an earlier training is not mistaken for this one's.
        self._key = f"issl_engine/heartbeat/{next(_generations)}"
        self._interval = seconds / LOOKS
        self._closed = threading.Event()
        self._beats = 0
        self._seen: dict[int, _Seen] = {}
        self._main_thread = threading.get_ident()
        self._watched_since = self._heard_of_store = time.monotonic()
        self._threads = [threading.Thread(target=self._judge_often, name="watchdog", daemon=True)]
        if self._store is not None:
            self._threads.append(threading.Thread(target=self._tell_often, name="heartbeat", daemon=True))

    def __enter__(self) -> "Watchdog":
        if self.seconds > 0:
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSING_SECONDS)

    def _tell_often(self) -> None:
        try:
            while not self._closed.is_set():
                self._tell()
                self._read()
                self._heard_of_store = time.monotonic()
                self._closed.wait(self._interval)
            self._tell()
        except RuntimeError as error:  # the store is gone, and with it the rank that kept it: the collectives will fail
            _log.debug("the heartbeat ends: %s", str(error).partition("\n")[0])

    def _tell(self) -> None:
        assert self._store is not None
        self._store.set(f"{self._key}/{self.rank}", self._own_beat().as_json())

    def _read(self) -> None:
        assert self._store is not None
        keys = {rank: f"{self._key}/{rank}" for rank in range(self.world_size)}
        if not self._store.check(list(keys.values())):  # some have not begun; to ask for what is not there would wait
            keys = {rank: key for rank, key in keys.items() if self._store.check([key])}
        now = time.monotonic()
        for rank, text in zip(keys, self._store.multi_get(list(keys.values())), strict=True):
            beat, seen = Beat.from_json(text.decode()), self._seen.get(rank)
            if seen is None or beat.beats != seen.beat.beats:
                self._seen[rank] = _Seen(beat=beat, heard=now)

    def _own_beat(self) -> Beat:
        places, step, phase, _ = self.heartbeat.place
        self._beats += 1
        return Beat(
            host=self.host, count=places, step=step, phase=phase, seconds=self._stalled_seconds(), beats=self._beats,
            line=_line_of(self._main_thread),
        )  # fmt: skip

    def _stalled_seconds(self) -> float:
        """For how long this rank's loop has not moved while it was watched."""
        return time.monotonic() - max(self.heartbeat.place[3], self._watched_since)

    def _judge_often(self) -> None:
        last_look = time.monotonic()
        while not self._closed.wait(self._interval):
            now = time.monotonic()
            if now - last_look > 5 * self._interval + 1:  # this process was stopped meanwhile: it has seen nothing
                self._watched_since = self._heard_of_store = now
                self._seen.clear()
            last_look = now
            sentence = self._verdict(now)
            if sentence is not None and not self._closed.is_set():
                self._end(sentence)

    def _verdict(self, now: float) -> str | None:
        """What is wrong, or None as long as some rank moves."""
        if self._stalled_seconds() < self.seconds:
            return None
        if self._store is not None and now - self._heard_of_store > self.seconds / 4:
            return (
                f"rank {self.rank} on host {self.host} has been in {self._own_beat().doing} for over "
                f"{self.seconds:g} s and hears nothing of the others: rank 0, by which ranks hear of each other, is "
                "stopped or its host is out of reach"
            )
        seen = {rank: one for rank, one in dict(self._seen).items() if rank != self.rank}
        if any(one.beat.seconds + now - one.heard < self.seconds for one in seen.values()):
            return None
        beats = {rank: one.beat for rank, one in seen.items()} | {self.rank: self._own_beat()}
        silent = {rank for rank, one in seen.items() if now - one.heard > self.seconds / 4 and one.beat.phase != "end"}
        return describe_hang(beats, silent, self.world_size, self.seconds)

    def _end(self, sentence: str) -> None:
        def tell() -> None:
            checkpoint = self.last_checkpoint()
            saved = f"the last checkpoint is {checkpoint}" if checkpoint else "no checkpoint was written yet"
            self.on_hung(
                f"{sentence}; nothing has moved for {self.seconds:g} s (training.watchdog_seconds), so the run ends; "
                f"{saved}; the same command goes on from there"
            )

        end_process(HUNG_EXIT_CODE, tell)


def _log_error(sentence: str) -> None:
    _log.error("%s", sentence)


def _line_of(thread: int) -> str:
    """Where in this project's files a thread is, or in which file at all: "file.py:12 function"."""
    innermost = frame = sys._current_frames().get(thread)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("issl_"):
        frame = frame.f_back
    shown = frame or innermost
    if shown is None:
        return "the end of its main thread"
    return f"{Path(shown.f_code.co_filename).name}:{shown.f_lineno} {shown.f_code.co_name}"
