"""Floors by hand, the ceilings they stand on, and percentiles."""

import math

import pytest
import torch

from issl_kernels.case import Work
from issl_profiling.kernels import ceilings as ceilings_module
from issl_profiling.kernels.ceilings import Ceilings, floor, measure_ceilings
from issl_profiling.timing import Spread, spread

H200 = Ceilings(790e12, 4.3e12, 4e12)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work(790e12, 4.3e12, 0), 1.0),
        (Work(4.4e12, 134e6, 4.3e9), 4.4e12 / 790e12),
        (Work(0, 1.6e9, 0.67e9), 1.6e9 / 4.3e12),
        (Work(1e9, 1e6, 4e9), 1e-3),
        (Work(0, 0, 0), 0.0),
    ],
    ids=["flops", "product_bound", "memory_bound", "exponential_bound", "nothing"],
)
def test_the_slowest_part_is_the_floor(work: Work, seconds: float) -> None:
    assert floor(work, H200) == pytest.approx(seconds)


def test_what_was_not_measured_bounds_nothing() -> None:
    assert floor(Work(0, 4.3e12, 1e30), H200._replace(exponentials_per_second=math.inf)) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ceilings_are_rates_of_this_machine(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings_module, "CPU_MATMUL", 64)
    monkeypatch.setattr(ceilings_module, "CPU_COPY_BYTES", 2**20)
    measured = measure_ceilings(dtype, torch.device("cpu"))
    assert all(1e6 < rate < 1e15 for rate in measured)


def test_percentiles() -> None:
    assert spread([4.0]) == Spread(4.0, 4.0, 4.0)
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0, 6.0]) == Spread(3.5, 2.0, 5.0)
