"""Memory of the process while a loader makes many batches: it must not grow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from issl_profiling.data.cases import DataCase
from issl_profiling.data.loaders import training_views
from issl_profiling.process_memory import MIB, resident_mib
from issl_profiling.results_file import MADE_BY, ResultsFile

SETTLED = 0.1
"""Share of the batches after which nothing should grow any more."""
SAMPLES = 100
SOAK_FILE = ResultsFile(
    columns=("case", "views", "batch_size", "batches", "resident_mib", "gpu_mib", *MADE_BY),
    holds="bench data --soak's lines",
)


@dataclass(frozen=True, kw_only=True)
class Soak:
    """``batches`` made so far → memory of the process and used memory of the GPU, in MiB (0 without one)."""

    batches: tuple[int, ...]
    resident_mib: tuple[float, ...]
    gpu_mib: tuple[float, ...]

    @property
    def growth_mib(self) -> float:
        """Of the process, from a tenth of the batches on to the end: the last value less the first."""
        return self.resident_mib[-1] - self.resident_mib[self._settled]

    @property
    def gpu_growth_mib(self) -> float:
        return self.gpu_mib[-1] - self.gpu_mib[self._settled]

    @property
    def _settled(self) -> int:
        return next(i for i, batch in enumerate(self.batches) if batch >= SETTLED * self.batches[-1])


def soak(case: DataCase, batches: int, on_batch: Callable[[int], None]) -> Soak:
    """Makes ``batches`` batches. Raises what the loader raises."""
    every = max(1, batches // SAMPLES)
    rows: list[tuple[int, float, float]] = []
    loader = training_views(case)
    try:
        for number in range(1, batches + 1):
            next(loader)
            if number % every == 0 or number == batches:
                rows.append((number, resident_mib(), _gpu_mib(case.device)))
                on_batch(number)
    finally:
        loader.close()
    numbers, resident, gpu = zip(*rows, strict=True)
    return Soak(batches=numbers, resident_mib=resident, gpu_mib=gpu)


def _gpu_mib(device: torch.device) -> float:
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / MIB


def soak_records(case: DataCase, measured: Soak) -> list[dict[str, Any]]:
    """One per sample, for SOAK_FILE."""
    samples = zip(measured.batches, measured.resident_mib, measured.gpu_mib, strict=True)
    about = {"case": case.name, "views": case.views_text, "batch_size": case.batch_size}
    return [
        about | {"batches": number, "resident_mib": round(resident, 1), "gpu_mib": round(gpu, 1)}
        for number, resident, gpu in samples
    ]


def describe_soak(measured: Soak) -> str:
    """What became of the memory, in one sentence."""
    start, end = measured.resident_mib[-1] - measured.growth_mib, measured.resident_mib[-1]
    gpu = f"; GPU {measured.gpu_growth_mib:+.1f} MiB" if any(measured.gpu_mib) else ""
    return f"from a tenth of the batches on {start:.0f} to {end:.0f} MiB ({measured.growth_mib:+.1f} MiB){gpu}"


def draw_soak(path: Path, measured: Soak, title: str) -> None:
    """The curve as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(measured.batches, measured.resident_mib, label="process")
    if any(measured.gpu_mib):
        axes.plot(measured.batches, measured.gpu_mib, label="GPU")
        axes.legend()
    axes.set(xlabel="batches", ylabel="memory, MiB", title=title, ylim=(0, None))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
