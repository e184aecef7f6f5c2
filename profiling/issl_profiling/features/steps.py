"""The steps that are measured, each in a process of its own, under a limit on its memory."""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, ProbeConfig
from issl_engine.probing.probes.fitting.epoch_order import epoch_order
from issl_engine.probing.probes.knn import KNNProbeConfig
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig
from issl_profiling.features.case import BATCH, NUM_CLASSES, FeatureCase
from issl_profiling.process_memory import limit_growth, own_memory, read_from_disk_mib

KEY = {"what": "made-up features of issl-engine bench features"}
NUM_QUERIES = 500
BUFFER_SHARE = 0.25
"""Of the file, for the shuffled runs: as if no more of it fitted into memory."""
VISITED = {"in the file's order": BUFFER_SHARE, "in shuffled runs": BUFFER_SHARE, "at random": 1 / 256}
"""Order → the share of an epoch's rows that is visited: one buffer; at random fewer, since most of the file would
be in memory soon, which a larger file never is."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``rows``: that were written, read or visited; ``read_mib``: from the disk; the others of the process's own
    memory."""

    step: str
    rows: int
    seconds: float
    read_mib: float
    own_before_mib: float
    own_peak_mib: float
    limit_mib: float
    note: str = ""


def run_steps(case: FeatureCase, folder: Path, limit_mib: float, on_step: Callable[[str], None]) -> list[Measured]:
    """All steps, one after the other, on a file in ``folder``. Raises Mistake where a step needs more than
    ``limit_mib`` beyond what its process had before."""
    measured = []
    for step in STEPS:
        on_step(step)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                measured.append(pool.submit(measure, step, case, folder, limit_mib).result())
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                    raise
                raise Mistake(f"the step '{step}' needs more than {limit_mib:g} MiB; raise --may-grow") from error
    return measured


def measure(step: str, case: FeatureCase, folder: Path, limit_mib: float) -> Measured:
    """One of STEPS. The process must not grow by more than ``limit_mib``: the step fails with MemoryError or
    RuntimeError."""
    torch.zeros(1).exp()  # threads and buffers of torch are no part of a step
    cache = FeatureCache(folder=folder, stored=case.stored)
    prepared = STEPS[step](case, cache)
    limit_growth(limit_mib)
    read_before, started = read_from_disk_mib(), time.perf_counter()
    with own_memory() as memory:
        rows, note = prepared()
    return Measured(
        step=step, rows=rows, seconds=time.perf_counter() - started, read_mib=read_from_disk_mib() - read_before,
        own_before_mib=memory.before_mib, own_peak_mib=memory.peak_mib, limit_mib=limit_mib, note=note,
    )  # fmt: skip


Step = Callable[[], tuple[int, str]]
"""Returns how many rows it went through, and a note."""


def _write(case: FeatureCase, cache: FeatureCache) -> Step:
    def write() -> tuple[int, str]:
        cache.keep(KEY, case.batches(), case.num_images)
        return case.num_images, "computed, written, read back"

    return write


def _open(case: FeatureCase, cache: FeatureCache) -> Step:
    _forget(cache)

    def find() -> tuple[int, str]:
        found = cache.find(KEY)
        assert found is not None, "the step 'write' comes first"
        return len(found), "checksum, from the disk"

    return find


def _visit(order: str, case: FeatureCase, cache: FeatureCache) -> Step:
    features = _features(case, cache)
    _forget(cache)  # what was read to open it; its own mapping keeps no page that was not used through it

    def visit() -> tuple[int, str]:
        generator = torch.Generator().manual_seed(0)
        buffer = int(BUFFER_SHARE * case.num_images * case.row_bytes)
        order_N = {
            "in the file's order": lambda: torch.arange(case.num_images),
            "in shuffled runs": lambda: epoch_order(case.num_images, case.row_bytes, generator, buffer_bytes=buffer),
            "at random": lambda: torch.randperm(case.num_images, generator=generator),
        }[order]()
        part_N = order_N[: int(VISITED[order] * case.num_images)]
        for index_B in part_N.split(BATCH):  # type: ignore[no-untyped-call]
            features.batch(index_B, torch.device("cpu")).sum()
        return len(part_N), "from the disk"

    return visit


def _fit(probe: ProbeConfig, case: FeatureCase, cache: FeatureCache) -> Step:
    features = _features(case, cache)
    index_N = torch.arange(case.num_images)
    queries_N = index_N % max(2, case.num_images // NUM_QUERIES) == 1
    judged, rest = index_N[queries_N], index_N[~queries_N]
    data = FitData(
        train=features.subset(rest[:-NUM_QUERIES]), held_out=features.subset(rest[-NUM_QUERIES:]),
        num_classes=NUM_CLASSES, seed=0,
    )  # fmt: skip

    def fit() -> tuple[int, str]:
        (result,) = probe.fit(data).judge(features.subset(judged))
        return len(rest), f"top-1 {result.value:.1f} % of {len(judged)}"

    return fit


def _features(case: FeatureCase, cache: FeatureCache) -> Features:
    found = cache.find(KEY)
    assert found is not None, "the step 'write' comes first"
    return Features(x_ND=found, labels_N=case.labels_N())


def _forget(cache: FeatureCache) -> None:
    """The system's memory of the file, so that it is read from the disk."""
    for path in cache.folder.glob("*.features"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


STEPS: dict[str, Callable[[FeatureCase, FeatureCache], Step]] = {
    "write": _write,
    "open": _open,
    "visit in the file's order": partial(_visit, "in the file's order"),
    "visit in shuffled runs": partial(_visit, "in shuffled runs"),
    "visit at random": partial(_visit, "at random"),
    "linear_sgd": partial(_fit, LinearSGDProbeConfig(lrs=(0.1,), weight_decays=(0.0,), batch_norm=(True,), epochs=1)),
    "knn": partial(_fit, KNNProbeConfig(ks=(20,))),
}
"""Name → what prepares it and returns what is timed."""
