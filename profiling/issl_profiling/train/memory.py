"""Peak memory of what is timed: allocated on a GPU, resident on a CPU."""

import ctypes
import gc
from pathlib import Path

import torch

MIB = 2**20
RESET_PEAK = "5"
"""What /proc/self/clear_refs takes to forget the highest resident size (Linux's proc(5))."""


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
        self._before_mib = _status_mib("VmRSS")

    def peak_mib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / MIB
        return _status_mib("VmHWM") - self._before_mib


def _status_mib(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) / 1024
    raise AssertionError(f"/proc/self/status has no {key}")
