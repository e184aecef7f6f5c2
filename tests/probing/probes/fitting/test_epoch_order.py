"""Orders of an epoch: permutations, plain where rows fit into memory, of short runs where they do not."""

import pytest
import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.epoch_order import epoch_order


def order(rows: int, *, row_bytes: int, buffer_bytes: int, run_bytes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return epoch_order(rows, row_bytes, generator, buffer_bytes=buffer_bytes, run_bytes=run_bytes)


@pytest.mark.parametrize("rows", [1, 7, 999, 1000, 1001])
@pytest.mark.parametrize(("buffer_bytes", "run_bytes"), [(10**9, 1000), (20_000, 1000), (1000, 100), (100, 1000)])
def test_every_row_comes_once(rows: int, buffer_bytes: int, run_bytes: int) -> None:
    found = order(rows, row_bytes=100, buffer_bytes=buffer_bytes, run_bytes=run_bytes)
    assert torch.equal(found.sort().values, torch.arange(rows))


def test_rows_that_fit_into_memory_are_drawn_at_random() -> None:
    expected = torch.randperm(500, generator=torch.Generator().manual_seed(3))
    assert torch.equal(order(500, row_bytes=100, buffer_bytes=50_000, run_bytes=1000, seed=3), expected)


def test_a_buffer_reads_as_many_runs_as_fill_it_and_mixes_them() -> None:
    """1000 rows in runs of 10 and buffers of 200: each run lies in one buffer, and a buffer holds 20 of all 100."""
    found = order(1000, row_bytes=100, buffer_bytes=20_000, run_bytes=1000)
    buffers = found.split(200)
    runs = [set((buffer // 10).tolist()) for buffer in buffers]
    assert [len(one) for one in runs] == [20] * 5
    assert len(set().union(*runs)) == 100
    for buffer in buffers:
        ranks = torch.corrcoef(torch.stack([buffer.double(), torch.arange(200.0, dtype=torch.float64)]))
        assert abs(ranks[0, 1]) < 0.3
        assert (buffer[1:] - buffer[:-1] == 1).float().mean() < 0.1
    assert max(runs[0]) - min(runs[0]) > 50


def test_another_epoch_has_another_order_and_the_same_seed_the_same() -> None:
    settings = {"row_bytes": 100, "buffer_bytes": 20_000, "run_bytes": 1000}
    generator = torch.Generator().manual_seed(0)
    first, second = (epoch_order(1000, generator=generator, **settings) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, order(1000, **settings))
