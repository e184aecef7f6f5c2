"""Memory of this process that is its own, over a block, under a limit. Pages of mapped files are not counted: the
system takes them back when it needs them."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
SECONDS_BETWEEN_SAMPLES = 0.02


@dataclass(kw_only=True)
class OwnMemory:
    """In MiB, at the start and at most."""

    before_mib: float
    peak_mib: float = field(default=0.0)


def limit_growth(mib: float) -> None:
    """From now on this process may ask for so much more memory of its own (RLIMIT_DATA); mapped files that are read
    only do not count. Beyond it, asking fails."""
    limit = int((_status_mib("VmData") + mib) * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextmanager
def own_memory() -> Iterator[OwnMemory]:
    """Watches RssAnon while the block runs."""
    found = OwnMemory(before_mib=_status_mib("RssAnon"))
    stop = threading.Event()

    def watch() -> None:
        while True:
            found.peak_mib = max(found.peak_mib, _status_mib("RssAnon"))
            if stop.wait(SECONDS_BETWEEN_SAMPLES):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.peak_mib = max(found.peak_mib, _status_mib("RssAnon"))  # on a busy machine the thread comes late
        stop.set()
        thread.join()


def read_from_disk_mib() -> float:
    """By this process so far, page faults of mapped files included."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:")) / MIB


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
