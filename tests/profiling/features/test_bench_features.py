"""bench features: each step goes through the rows that it says, and the limit on memory holds."""

import csv
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from issl_engine.probing.features.cache import FeatureCache
from issl_profiling.features.case import FeatureCase
from issl_profiling.features.steps import STEPS, Measured
from issl_profiling.features.table import COLUMNS, FEATURES_FILE, as_record, print_features
from issl_profiling.process_memory import own_memory, read_from_disk_mib

CASE = FeatureCase(num_images=8000, dim=16, stored="float32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    cache = FeatureCache(folder=tmp_path_factory.mktemp("features"), stored="float32")
    assert STEPS["write"](CASE, cache)()[0] == 8000
    return cache


def test_every_step_goes_through_its_rows(cache: FeatureCache) -> None:
    rows = {step: prepare(CASE, cache)()[0] for step, prepare in STEPS.items() if step != "write"}
    assert rows == {
        "open": 8000,
        "visit in the file's order": 2000,
        "visit in shuffled runs": 2000,
        "visit at random": 31,
        "linear_sgd": 7500,
        "knn": 7500,
    }


def test_made_up_features_have_their_classes_and_sizes() -> None:
    batches = list(CASE.batches())
    assert sum(len(batch) for batch in batches) == 8000
    assert not batches[0].equal(batches[1])
    assert CASE.mib == pytest.approx(8000 * 16 * 4 / 2**20)


def test_what_grows_beyond_the_limit_fails() -> None:
    code = (
        "import torch; from issl_profiling.process_memory import limit_growth; limit_growth(64)\n"
        "torch.ones(2**20); print('small', flush=True); torch.ones(2**25); print('large')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == "small\n"


def test_own_memory_is_seen() -> None:
    """Memory from the system: an allocator may hand out pages that it kept since an earlier test."""
    with own_memory() as memory:
        block = mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block[::4096] = b"x" * len(block[::4096])
    assert memory.peak_mib - memory.before_mib > 50
    assert read_from_disk_mib() >= 0


def test_lines_hold_what_was_measured(tmp_path: Path) -> None:
    one = Measured(
        step="open", rows=8000, seconds=0.5, read_mib=1.5, own_before_mib=100.0, own_peak_mib=120.0, limit_mib=64.0
    )
    made_by = {"device": "d", "torch": "t", "commit": "c", "date": "now", "command": "bench", "dali": "", "more": ""}
    for _ in range(2):
        FEATURES_FILE.add(tmp_path / "a.csv", [as_record(CASE, one)], made_by)
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2
    assert tuple(lines[0]) == COLUMNS
    assert float(lines[0]["mib_per_second"]) == pytest.approx(8000 * 64 / 2**20 / 0.5, abs=0.1)
    print_features(CASE, [one])
