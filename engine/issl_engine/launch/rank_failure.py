"""In a rank: its end is reported once, to its supervisor or, without one, among the ranks themselves."""

import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from issl_engine.launch.failure import INTERRUPTED_EXIT_CODE, Failure, Kind
from issl_engine.launch.hosts import Place
from issl_engine.launch.local_ranks import LONGEST_REPORT_BYTES
from issl_engine.launch.rank_environment import FAILURE_PIPE, RANK_LOG, join, joined_place
from issl_engine.launch.rank_logging import set_up_rank_log
from issl_engine.launch.tied_to_parent import end_with_parent
from issl_engine.mistakes import Mistake, is_mistake, sentence_of
from issl_engine.training.watch import interruption
from issl_engine.training.watch.interruption import Interrupted, end_after_notice, sigterm_interrupts
from issl_engine.training.watch.process_end import end_process

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

KEY = "issl_engine/failure"
CAUSE_SECONDS = 3.0
"""For a rank whose connection broke, until another reports the cause; then for the others to read it."""
WATCH_SECONDS = 2.0
NOTICE_SECONDS = 8.0
"""For a rank to notice by itself that another has failed."""
LONGEST_SENTENCE = 8_000
BROKEN_CONNECTION = (
    "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused", "gloo/transport",
    "recvValue failed", "NCCL communicator was aborted", "remote process exited",
)  # fmt: skip


class RankFailures:
    """What a rank needs to report its end. ``store`` is there once the ranks have met, ``pipe`` with a supervisor."""

    def __init__(self, place: Place | None, pipe: int | None) -> None:
        self.place, self.pipe = place, pipe
        self.store: Store | None = None
        self._watch: threading.Thread | None = None
        self._ended = threading.Event()

    def meet(self, store: "Store | None") -> None:
        """Takes the ranks' store. Without a supervisor also watches it, for a rank that waits for a failed one."""
        self.store = store
        if store is not None and self.place is not None and FAILURE_PIPE not in os.environ:
            arguments = (store, self.place, self._ended)
            self._watch = threading.Thread(target=_leave_after_others, args=arguments, daemon=True)
            self._watch.start()

    def close(self) -> None:
        """Ends the watch, so that Python's own end does not find it in the middle of a question."""
        self._ended.set()
        if self._watch is not None:
            self._watch.join()

    def tell_of_hang(self, sentence: str) -> None:
        """For the watchdog, which ends the process afterwards."""
        self._tell(Mistake(sentence))

    def end_late(self) -> NoReturn:
        """Ends a process that was asked to stop and does not."""
        late = Interrupted(
            f"stopped by SIGTERM; it could not save within {interruption.SIGTERM_SECONDS:g} s, so steps after the last "
            "checkpoint will be done again; the same command goes on from there"
        )
        end_process(INTERRUPTED_EXIT_CODE, lambda: self._tell(late))

    def _tell(self, error: BaseException) -> None:
        """To the supervisor, the other ranks or the terminal."""
        if self.place is None:
            print(f"error: {error}", file=sys.stderr)
            return
        failure = failure_of(error, self.place)
        _log_end(error, failure, self.pipe is not None)
        _hand_on(failure, self.place, self.store, self.pipe)


@contextlib.contextmanager
def failures_reported_once() -> Iterator[RankFailures]:
    """Around all that a rank does. A lone process is left alone; a rank that fails ends here, its reason reported.

    SIGTERM raises Interrupted, so that a run which is not training just then ends like one that is, in any case within
    SIGTERM_SECONDS.
    """
    end_with_parent()
    place = joined_place()
    pipe = _pipe()
    is_alone = place is None or (place.world_size == 1 and pipe is None)
    failures = RankFailures(None if is_alone else place, pipe)
    with sigterm_interrupts(), end_after_notice(failures.end_late):
        if place is None or is_alone:
            yield failures
            return
        set_up_rank_log(place.rank)
        try:
            join(place)
            yield failures
            failures.close()
        except BaseException as error:
            _leave(error, place, failures.store, pipe)


def _leave(error: BaseException, place: Place, store: "Store | None", pipe: int | None) -> NoReturn:
    failure = failure_of(error, place)
    _log_end(error, failure, pipe is not None)
    cause = _hand_on(failure, place, store, pipe)
    sys.stderr.flush()
    logging.shutdown()
    # Not by way of Python's exit: communicators of ranks that are gone may wait there for ever.
    os._exit(INTERRUPTED_EXIT_CODE if cause.kind == "interrupted" else 1)


def _hand_on(failure: Failure, place: Place, store: "Store | None", pipe: int | None) -> Failure:
    """To the supervisor, or among the ranks. Returns the failure that decides how this rank ends."""
    if pipe is None:
        return _tell_the_others(failure, store, place)
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, failure.as_line().encode()[:LONGEST_REPORT_BYTES])
    return failure


def failure_of(error: BaseException, place: Place) -> Failure:
    """What a rank's exception says of its end."""
    kind = _kind(error)
    expected = is_mistake(error) or kind == "interrupted"
    sentence = _sentence(error) if expected else f"{type(error).__name__}: {error}"
    if kind == "connection" and not expected:
        first_line = sentence.partition("\n")[0][:300]
        sentence = f"lost the connection to another rank ({first_line})"
    elif kind == "defect" and RANK_LOG in os.environ:
        sentence += f"; the traceback is in {os.environ[RANK_LOG]}"
    return Failure(
        rank=place.rank, host=place.host, time=time.time(), kind=kind, sentence=sentence[:LONGEST_SENTENCE]
    )  # fmt: skip


def _kind(error: BaseException) -> Kind:
    from torch.distributed import DistBackendError, DistNetworkError, DistStoreError

    from issl_engine.ranks import RanksDidNotMeet

    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, DistBackendError | DistNetworkError | DistStoreError | RanksDidNotMeet):
        return "connection"
    if isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in BROKEN_CONNECTION):
        return "connection"
    return "mistake" if is_mistake(error) else "defect"


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped at once by Ctrl-C; what was saved before is kept"
    return sentence_of(error)


def _log_end(error: BaseException, failure: Failure, supervised: bool) -> None:
    """Into the rank's log; a supervisor speaks on the terminal, where without one a defect's traceback is due."""
    text = failure.sentence
    if failure.kind != "interrupted":
        text = "".join(traceback.format_exception(error)).rstrip()
    if supervised:
        with contextlib.suppress(OSError), open(os.environ[RANK_LOG], "a", encoding="utf-8") as log:
            log.write(f"{text}\n")
    elif failure.kind == "defect":
        print(text, file=sys.stderr)


def _tell_the_others(failure: Failure, store: "Store | None", place: Place) -> Failure:
    """Without a supervisor the first rank that fails speaks, and the others only say whose failure stops them.

    Returns what all agree on. A stop that was asked for is reported by one rank alone.
    """
    store = store or _met_to_tell(place)
    cause = _agreed_cause(failure, store) if store is not None else failure
    if cause.rank == failure.rank:
        start = "" if failure.kind == "interrupted" else f"error: rank {failure.rank} on {failure.host}: "
        for line in failure.sentence.splitlines():
            print(f"{start}{line}", file=sys.stderr)
    elif cause.kind != "interrupted":
        print(_because_of(cause, place), file=sys.stderr)
    if store is not None and place.rank == 0:
        _wait_for_readers(store, place.world_size)  # this rank may keep the store
    return cause


def _because_of(cause: Failure, place: Place) -> str:
    return f"rank {place.rank} stops because of rank {cause.rank} on {cause.host}"


def _met_to_tell(place: Place) -> "Store | None":
    """For ranks that fail before they have met, such as by a mistake in the recipe: a short meeting, if others come."""
    from torch.distributed.rendezvous import rendezvous

    with contextlib.suppress(RuntimeError, ValueError):  # torch's: nobody comes, or a variable is wrong
        store: Store = next(rendezvous("env://", timeout=timedelta(seconds=CAUSE_SECONDS)))[0]
        return store
    return None


def _agreed_cause(failure: Failure, store: "Store") -> Failure:
    """The failure that all ranks name. A rank whose connection broke leaves the others time to report theirs first."""
    deadline = time.monotonic() + (CAUSE_SECONDS if failure.kind == "connection" else 0)
    try:
        while time.monotonic() < deadline and not store.check([KEY]):
            time.sleep(0.05)
        agreed = store.compare_set(KEY, "", json.dumps(asdict(failure)))
        store.add(f"{KEY}/readers", 1)
        return Failure(**json.loads(agreed))
    except RuntimeError:  # the rank that keeps the store is gone: none is left to agree with
        return failure


def _wait_for_readers(store: "Store", world_size: int) -> None:
    deadline = time.monotonic() + CAUSE_SECONDS
    with contextlib.suppress(RuntimeError):
        while time.monotonic() < deadline and store.add(f"{KEY}/readers", 0) < world_size:
            time.sleep(0.05)


def _leave_after_others(store: "Store", place: Place, ended: threading.Event) -> None:
    """Ends this rank when another has failed and this one does not notice: a collective of NCCL waits for ever."""
    with contextlib.suppress(RuntimeError):  # the rank that keeps the store is gone
        while not store.check([KEY]):
            if ended.wait(WATCH_SECONDS):
                return
        if ended.wait(NOTICE_SECONDS):
            return
        cause = Failure(**json.loads(store.get(KEY)))
        if cause.kind != "interrupted":
            print(_because_of(cause, place), file=sys.stderr, flush=True)
        os._exit(INTERRUPTED_EXIT_CODE if cause.kind == "interrupted" else 1)


def _pipe() -> int | None:
    text = os.environ.get(FAILURE_PIPE)
    if text is None:
        return None
    os.set_inheritable(int(text), False)
    return int(text)
