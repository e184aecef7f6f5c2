"""What the heartbeats of ranks that have stopped moving mean: which rank the others wait for, in one sentence."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from issl_engine.training.watch.heartbeat import Phase

MOST_NAMED = 8
_DOING: dict[Phase, str] = {
    "start": "starting (it has made no step yet)",
    "data": "'data' of step {step}",
    "step": "'step' of step {step}",
    "checkpoint": "'checkpoint' of step {step}",
    "end": "the end of training, after step {step}",
}


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One rank's place, as it reported it to the others. ``count`` of places so far, ``seconds`` without a new one;
    ``beats`` counts its reports: one that stays the same is of a rank that is stopped. ``line``: where its main thread
    is, as "file.py:12 function"."""

    host: str
    count: int
    step: int
    phase: Phase
    seconds: float
    beats: int
    line: str

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Beat":
        return cls(**json.loads(text))

    @property
    def doing(self) -> str:
        return _DOING[self.phase].format(step=self.step)


def describe_hang(beats: Mapping[int, Beat], silent: set[int], world_size: int, seconds: float) -> str:
    """Which ranks are behind, where and in what. ``beats`` of those that were heard of; ``silent`` ranks have
    reported nothing new for long, though the others have; ``seconds``: the watchdog's."""
    never = sorted(set(range(world_size)) - beats.keys())
    if never:
        return (
            f"{_name(never)} {_has(never)} not begun training for over {seconds:g} s; the others wait for {_it(never)}"
        )
    if silent:
        ranks = sorted(silent)
        return (
            f"{_on_hosts(ranks, beats)} {_has(ranks)} not been heard of (stopped, or the host is out of reach), last "
            f"in {_doings(ranks, beats)}; the others wait for {_it(ranks)}"
        )
    last = min(beat.count for beat in beats.values())
    behind = [rank for rank in sorted(beats) if beats[rank].count == last]
    place = f"{_has(behind)} been in {beats[behind[0]].doing} for over {seconds:g} s{_lines(behind, beats)}"
    if world_size == 1:
        return f"training {place}"
    waiting = "" if len(behind) == world_size else f"; the others wait for {_it(behind)}"
    return f"{_on_hosts(behind, beats)} {place}{waiting}"


def _lines(ranks: list[int], beats: Mapping[int, Beat]) -> str:
    """Where in the program they are; who is where, if that differs."""
    where: dict[str, list[int]] = {}
    for rank in ranks:
        where.setdefault(beats[rank].line, []).append(rank)
    if len(where) == 1:
        return f", at {next(iter(where))}"
    return ", at " + ", ".join(f"{line} ({_name(own)})" for line, own in where.items())


def _doings(ranks: list[int], beats: Mapping[int, Beat]) -> str:
    return " or ".join(dict.fromkeys(beats[rank].doing for rank in ranks))


def _on_hosts(ranks: list[int], beats: Mapping[int, Beat]) -> str:
    hosts = list(dict.fromkeys(beats[rank].host for rank in ranks))
    named = ", ".join(hosts[:MOST_NAMED]) + (", ..." if len(hosts) > MOST_NAMED else "")
    return f"{_name(ranks)} on {'host' if len(hosts) == 1 else 'hosts'} {named}"


def _name(ranks: list[int]) -> str:
    named = ", ".join(map(str, ranks[:MOST_NAMED])) + (", ..." if len(ranks) > MOST_NAMED else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {named}"


def _has(ranks: list[int]) -> str:
    return "have" if len(ranks) > 1 else "has"


def _it(ranks: list[int]) -> str:
    return "them" if len(ranks) > 1 else "it"
