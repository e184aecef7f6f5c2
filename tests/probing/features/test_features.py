"""A view gives the rows that indexing would give, from wherever they lie, and copies none of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from issl_engine.probing.features.features import CPU, Features
from issl_engine.sources.base import TargetTable


def table(values: torch.Tensor) -> TargetTable:
    return TargetTable(names=("first", "second"), values_NT=values.float().numpy())


def numbered(count: int, start: int = 0) -> Features:
    """Row i is (i, i + 0.5, -i), its label is i, its values (i, 10 i)."""
    i_N = torch.arange(start, start + count)
    x_ND = torch.stack([i_N, i_N + 0.5, -i_N], dim=1).float()
    return Features(x_ND=x_ND, labels_N=i_N, values=table(torch.stack([i_N, 10 * i_N], dim=1)))


def assert_rows(features: Features, expected: list[int]) -> None:
    """By each way in which rows can be had."""
    i_N = torch.tensor(expected)
    x_ND = torch.stack([i_N, i_N + 0.5, -i_N], dim=1).float()
    assert features.labels_N.tolist() == expected
    assert len(features) == len(expected)
    torch.testing.assert_close(features.x_ND, x_ND)
    order = torch.arange(len(expected)).flip(0)
    torch.testing.assert_close(features.batch(order, CPU), x_ND.flip(0))
    for rows in (1, 3, 100):
        blocks = list(features.blocks(CPU, rows=rows))
        torch.testing.assert_close(torch.cat([block for _, block in blocks]), x_ND)
        assert [part.stop - part.start for part, _ in blocks] == [len(block) for _, block in blocks]
        assert max(len(block) for _, block in blocks) <= rows
    assert features.values is not None
    assert features.values.values_NT.tolist() == [[i, 10 * i] for i in expected]


def test_subsets_of_subsets() -> None:
    whole = numbered(10)
    assert_rows(whole, list(range(10)))
    part = whole.subset(torch.tensor([9, 3, 3, 5]))
    assert_rows(part, [9, 3, 3, 5])
    assert_rows(part.subset(torch.tensor([3, 0])), [5, 9])


def test_parts_of_one_store_are_joined_and_put_in_order_again() -> None:
    whole = numbered(8)
    joined = whole.subset(torch.tensor([6, 1])).joined(whole.subset(torch.tensor([4, 7])))
    assert_rows(joined, [6, 1, 4, 7])
    assert_rows(joined.in_stored_order(), [1, 4, 6, 7])
    assert len(joined._stores) == 1


def test_features_of_two_stores_are_joined() -> None:
    joined = numbered(4).joined(numbered(3, start=4))
    assert_rows(joined, list(range(7)))
    assert_rows(joined.subset(torch.tensor([5, 2, 6])), [5, 2, 6])
    again = joined.subset(torch.tensor([5, 2])).joined(joined.subset(torch.tensor([0])))
    assert_rows(again, [5, 2, 0])
    assert_rows(again.joined(numbered(2, start=7)).in_stored_order(), [0, 2, 5, 7, 8])


def test_no_row_is_copied_before_it_is_asked_for(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(6, 3))
    store = torch.from_numpy(mapped)
    features = Features(x_ND=store, labels_N=torch.arange(6)).subset(torch.tensor([4, 2, 0]))
    features = features.joined(features.subset(torch.tensor([1])))
    mapped[2] = 7  # after the view was made
    assert features._stores[0].data_ptr() == store.data_ptr()
    assert features.x_ND[:, 0].tolist() == [0, 7, 0, 7]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_come_as_float32(dtype: torch.dtype) -> None:
    features = Features(x_ND=torch.tensor([[0.5, 2.0], [1.0, 3.0]], dtype=dtype), labels_N=torch.arange(2))
    wanted = torch.tensor([[1.0, 3.0], [0.5, 2.0]])
    index = torch.tensor([1, 0])
    for rows in (features.batch(index, CPU), features.subset(index).x_ND, features.x_ND.flip(0)):
        assert rows.dtype == torch.float32
        assert torch.equal(rows, wanted)
    joined = features.joined(Features(x_ND=torch.zeros(1, 2), labels_N=torch.zeros(1, dtype=torch.int64)))
    assert joined.x_ND.tolist() == [[0.5, 2.0], [1.0, 3.0], [0.0, 0.0]]


def test_blocks_keep_to_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_BYTES", 4 * 3 * 2)
    assert [len(block) for _, block in numbered(5).blocks(CPU)] == [2, 2, 1]
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_BYTES", 1)
    assert [len(block) for _, block in numbered(2).blocks(CPU)] == [1, 1]
