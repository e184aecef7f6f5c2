"""How ranks find each other: the interface that leads to rank 0, and why they did not meet."""

import contextlib
import fcntl
import os
import socket
import struct
from datetime import timedelta

SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface
DISCARD_PORT = 9


class RanksDidNotMeet(ValueError):
    """One sentence that says where and how long this rank waited; another rank's failure may be the reason."""


def interface_towards_first_rank() -> str | None:
    """The network interface on which this rank reaches rank 0's host, or None where it cannot be told."""
    return interface_towards(os.environ.get("MASTER_ADDR", ""))


def _own_address_towards(host: str) -> str:
    """The IPv4 address from which this machine reaches another host. Raises OSError where no route leads there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, DISCARD_PORT))  # only looks the route up: a datagram socket sends nothing here
        return str(probe.getsockname()[0])


def interface_towards(host: str) -> str | None:
    """The network interface that leads to a host, or that holds its address where it is this machine.

    None where it cannot be told (IPv6, or an address that no interface has as its first).
    """
    with contextlib.suppress(OSError):
        wanted = _own_address_towards(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # an interface without an IPv4 address
                    request = struct.pack("256s", name.encode()[:15])
                    answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
                    if socket.inet_ntoa(answer[20:24]) == wanted:
                        return name
    return None


def failed_meeting(reason: str, world_size: int, timeout: timedelta) -> ValueError:
    """What torch says when its store cannot be made, for the user."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    if "EADDRINUSE" in reason or "address already in use" in reason.lower():
        return ValueError(
            f"MASTER_PORT {os.environ.get('MASTER_PORT')} is taken by another process on rank 0's host; set it to a "
            "free port"
        )
    return RanksDidNotMeet(
        f"the {world_size} ranks did not meet at {place} (MASTER_ADDR, MASTER_PORT) within "
        f"{timeout.total_seconds():g} s ({reason.partition(chr(10))[0][:300]}); check that all of them were started "
        "and that no firewall is in between"
    )
