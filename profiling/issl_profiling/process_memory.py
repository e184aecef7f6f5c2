"""Memory of this process: in use now, at most, of its own, and a limit on it; peaks of a device.

Resident memory (VmRSS, VmHWM) counts shared pages and pages of mapped files. Memory of its own (RssAnon) does not:
the system takes mapped pages back when it needs them. Names are those of Linux's proc(5).
"""

import ctypes
import gc
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20
RESET_PEAK = "5"
"""What /proc/self/clear_refs takes to forget the highest resident size."""
SECONDS_BETWEEN_SAMPLES = 0.02


def resident_mib() -> float:
    """In use now."""
    return _status_mib("VmRSS")


class PeakMemory:
    """The peak between ``reset`` and ``peak_mib``, in MiB.

    On a GPU what this process allocated there. On a CPU the resident size of this process beyond what it was at
    ``reset``, without the workers' own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before_mib = 0.0

    def reset(self) -> None:
        """What earlier measurements left is given back first."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
        self._before_mib = resident_mib()

    def peak_mib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / MIB
        return _status_mib("VmHWM") - self._before_mib


@dataclass(kw_only=True)
class OwnMemory:
    """In MiB, at the start and at most."""

    before_mib: float
    peak_mib: float = 0.0


@contextmanager
def own_memory() -> Iterator[OwnMemory]:
    """Watches the process's own memory while the block runs."""
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


def limit_growth(mib: float) -> None:
    """From now on this process may ask for so much more memory of its own (RLIMIT_DATA); mapped files that are read
    only do not count. Beyond it, asking fails."""
    limit = int((_status_mib("VmData") + mib) * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def read_from_disk_mib() -> float:
    """By this process so far, page faults of mapped files included."""
    return _number_of("io", "read_bytes") / MIB


def _status_mib(key: str) -> float:
    return _number_of("status", key) / 1024


def _number_of(file: str, key: str) -> int:
    """The number behind ``key`` in /proc/self/<file>."""
    for line in Path(f"/proc/self/{file}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise AssertionError(f"/proc/self/{file} has no {key}")
