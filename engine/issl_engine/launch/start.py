"""Starts the ranks of one machine or of several, and waits for them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from issl_engine.launch.addresses import free_port, is_free, is_here, resolve
from issl_engine.launch.hosts import Host, place_ranks
from issl_engine.launch.local_ranks import LocalRanks, RankGroup, rank_command
from issl_engine.launch.rank_environment import host_name
from issl_engine.launch.remote_ranks import RemoteRanks
from issl_engine.launch.supervisor import Outcome, supervise
from issl_engine.mistakes import Mistake
from issl_engine.rank_variables import chosen_port

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How other hosts are reached: ``remote_shell`` is called with a host and a command line for its shell."""

    remote_shell: str = "ssh -o BatchMode=yes"
    connect_timeout_seconds: float = 30.0


def this_machine(num_ranks: int) -> tuple[Host, ...]:
    """So many ranks, all here."""
    return (Host(name=host_name(), slots=num_ranks),)


def run_ranks(arguments: Sequence[str], hosts: Sequence[Host], *, logs: Path, reach: Reach) -> Outcome:
    """Starts ``issl-engine ARGUMENTS`` once per slot and waits for all; logs go to ``logs``/rank<k>.log.

    Nothing is written before every host has answered. Raises Mistake for a host that cannot be reached, for a port
    that is taken and for logs that cannot be written.
    """
    if len(hosts) == 1 and (hosts[0] == this_machine(hosts[0].slots)[0] or is_here(hosts[0].name)):
        ranks = LocalRanks(
            rank_command(arguments), place_ranks(hosts), master_address=LOOPBACK,
            master_port=_own_port() or free_port(), logs=logs,
        )  # fmt: skip
        return supervise([ranks], hosts[0].slots)
    return _run_on_hosts(arguments, hosts, logs=logs, reach=reach)


def _run_on_hosts(arguments: Sequence[str], hosts: Sequence[Host], *, logs: Path, reach: Reach) -> Outcome:
    places = place_ranks(hosts)
    first = hosts[0].name
    groups: dict[str, RankGroup] = {}
    remote: dict[str, RemoteRanks] = {}
    try:
        for host in hosts:
            if not is_here(host.name):
                groups[host.name] = remote[host.name] = RemoteRanks(
                    host.name, remote_shell=reach.remote_shell, first_host=first
                )
        deadline = time.monotonic() + reach.connect_timeout_seconds
        ready = {
            name: ranks.wait_until_ready(deadline, reach.connect_timeout_seconds) for name, ranks in remote.items()
        }
        # The first host's name may mean the loopback address to the first host itself: what another one sees counts.
        seen = [answer.first_address for name, answer in ready.items() if name != first]
        address = seen[0] if seen else resolve(first)
        port = _own_port() if first not in ready else chosen_port()
        port = port or (ready[first].free_port if first in ready else free_port())
        for host in hosts:
            own = [place for place in places if place.host == host.name]
            if host.name in remote:
                remote[host.name].start(arguments, own, master_address=address, master_port=port, logs=logs.absolute())
            else:
                groups[host.name] = LocalRanks(
                    rank_command(arguments), own, master_address=address, master_port=port, logs=logs
                )
        return supervise([groups[host.name] for host in hosts], len(places))
    finally:
        for group in groups.values():
            group.close()


def _own_port() -> int | None:
    """The port that the user chose for a first rank on this machine. Raises Mistake when it is taken."""
    port = chosen_port()
    if port is not None and not is_free(port):
        raise Mistake(
            f"MASTER_PORT {port} is taken by another process on {host_name()}; set it to a free port, or unset it to "
            "have one chosen"
        )
    return port
