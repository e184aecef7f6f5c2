"""Addresses and ports: a host's address, whether it is this machine's, a free port."""

import socket

from issl_engine.mistakes import Mistake


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether one can listen on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def resolve(host: str) -> str:
    """The IPv4 address of a host. Raises Mistake."""
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise Mistake(f"{host}: this host's name has no address here ({error.strerror or error})") from error


def is_here(host: str) -> bool:
    """Whether a host is this machine: one can listen only on addresses of one's own."""
    with socket.socket() as probe:
        try:
            probe.bind((resolve(host), 0))
        except (OSError, Mistake):
            return False
        return True
