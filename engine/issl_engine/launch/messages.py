"""What a supervisor and its agent on another host say to each other: JSON lines over the remote shell's pipes.

agent → supervisor: Ready, then Output and RankEnded, or Refused. Supervisor → agent: Start, Signal; the end of the
stream means that the supervisor is gone.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The agent runs. ``first_address`` is the first host's address as this host sees it, ``free_port`` one that is
    free here, ``time`` seconds since 1970 by this host's clock."""

    first_address: str
    free_port: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The agent cannot do what it was asked for: one sentence."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start these ranks. ``places`` are Places as dictionaries; ``arguments`` follow 'issl-engine'."""

    arguments: list[str]
    places: list[dict[str, Any]]
    master_address: str
    master_port: int
    logs: str
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Pass this signal on to the ranks."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Output:
    """What rank 0 wrote to stdout."""

    text: str


@dataclass(frozen=True, kw_only=True)
class RankEnded:
    """A rank ended; ``failure`` is a Failure as a dictionary, or None."""

    rank: int
    code: int
    failure: dict[str, Any] | None


Message = Ready | Refused | Start | Signal | Output | RankEnded

KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Ready, Refused, Start, Signal, Output, RankEnded)
}  # fmt: skip


class NoMessage(Exception):
    """A line that neither the supervisor nor an agent has sent."""


def to_line(message: Message) -> str:
    return json.dumps({"kind": type(message).__name__} | asdict(message)) + "\n"


def from_line(line: str) -> Message:
    """Raises NoMessage for a line such as what a host's start-up files print."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise NoMessage(line.strip()[:80]) from error
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        raise NoMessage(line.strip()[:80])
    return KINDS[content.pop("kind")](**content)
