"""Which rank runs on which host: the hostfile, and the places that follow from it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from issl_engine.mistakes import Mistake

LINE = re.compile(r"(?P<name>[^\s#=]+)\s+slots\s*=\s*(?P<slots>\S+)")
SAMPLE = "a line is 'host slots=N', such as 'node1 slots=8'"
THIS_MACHINE_ONLY = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine, as a remote shell and the other hosts call it, and how many ranks it runs."""

    name: str
    slots: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one rank is among all. ``local_rank`` counts on its host, and is the index of its GPU there;
    ``local_world_size`` is 0 where the launcher does not say how many ranks the host runs."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    host: str


def read_hostfile(path: Path) -> tuple[Host, ...]:
    """The hosts of a file of lines ``host slots=N``; '#' begins a comment. Raises Mistake with file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Mistake(f"{path}: the hostfile cannot be read ({reason})") from error
    line_of: dict[str, int] = {}
    hosts: list[Host] = []
    for number, line in enumerate(lines, start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        host = _host(content, f"{path}:{number}")
        if host.name in line_of:
            raise Mistake(
                f"{path}:{number}: {host.name} is in line {line_of[host.name]} already; give it all its slots there"
            )
        line_of[host.name] = number
        hosts.append(host)
    if not hosts:
        raise Mistake(f"{path}: the hostfile names no host; {SAMPLE}")
    if len(hosts) > 1:
        for host in hosts:
            if host.name in THIS_MACHINE_ONLY:
                raise Mistake(
                    f"{path}:{line_of[host.name]}: {host.name} means another machine to each host; "
                    "write the name or address that the others know it by"
                )
    return tuple(hosts)


def _host(content: str, where: str) -> Host:
    match = LINE.fullmatch(content)
    if match is None:
        raise Mistake(f"{where}: '{content}' is no host; {SAMPLE}")
    name, slots = match["name"], match["slots"]
    if name.startswith("-"):
        raise Mistake(f"{where}: a host's name cannot begin with '-', as '{name}' does")
    if not slots.isdecimal() or int(slots) < 1:
        raise Mistake(f"{where}: slots must be a whole number of at least 1, not '{slots}'")
    return Host(name=name, slots=int(slots))


def place_ranks(hosts: Sequence[Host]) -> tuple[Place, ...]:
    """One place per slot, in the order of the hosts: a host's ranks are neighbours."""
    world_size = sum(host.slots for host in hosts)
    places: list[Place] = []
    for host in hosts:
        for local_rank in range(host.slots):
            places.append(
                Place(
                    rank=len(places), world_size=world_size, local_rank=local_rank, local_world_size=host.slots,
                    host=host.name,
                )
            )  # fmt: skip
    return tuple(places)
