"""Why a rank ended: what it hands to its supervisor, and which of several failures is the cause of the others."""

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

INTERRUPTED_EXIT_CODE = 75
"""Exit code of a run that was asked to stop and has saved: sysexits.h's EX_TEMPFAIL, "try again later"."""

Kind = Literal["mistake", "defect", "ended", "connection", "interrupted"]
"""A sentence for the user; an exception nobody expected; an end without a word; a connection that broke because another
rank ended; a stop that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One rank's end. ``time`` is seconds since 1970 by its host's clock."""

    rank: int
    host: str
    time: float
    kind: Kind
    sentence: str

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Failure":
        return cls(**json.loads(line))


def root_cause(failures: Sequence[Failure]) -> Failure:
    """The one that the others follow from: the earliest that is no broken connection and no stop, if there is one."""

    def order(failure: Failure) -> tuple[bool, bool, float]:
        return failure.kind == "connection", failure.kind == "interrupted", failure.time

    return min(failures, key=order)


def describe(cause: Failure, failures: Sequence[Failure], world_size: int) -> str:
    """The cause in one sentence that names the ranks which say the same, and their hosts; all ranks need no names."""
    alike = {one.rank: one for one in [*failures, cause] if one.sentence == cause.sentence}
    if len(alike) == world_size:
        return cause.sentence
    hosts = ", ".join(dict.fromkeys(alike[rank].host for rank in sorted(alike)))
    ranks = ", ".join(str(rank) for rank in sorted(alike))
    return f"rank{'s' if len(alike) > 1 else ''} {ranks} on {hosts}: {cause.sentence}"


def sentence_of_exit(code: int, log: str) -> str:
    """For a rank that ended without a word. ``code`` is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}; its last lines are in {log}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    why = " (the system does so when memory runs out)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{why}; its last lines are in {log}"
