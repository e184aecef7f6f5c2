"""Features as a view: rows that lie somewhere (in memory, or in a mapped file larger than it), and which of them.

Letters: N images of the view, D width of the representation; b rows of a block or batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from issl_engine.sources.base import TargetTable

CPU = torch.device("cpu")
BLOCK_BYTES = 2**26
"""Rows that move to the device at a time take at most this much as float32 (one row at the least)."""
BLOCK_ROWS = 4096
"""And are at most so many: what is computed of a row may be wider than the row."""


class Features:
    """Frozen representations of some images: ``x_ND`` float [n, d], ``labels_N`` int64 [n], -1 where there is no class.

    The rows stay where they are (a memory-mapped file too); ``subset`` and ``joined`` copy none of them. ``values`` are
    numbers to predict and ``attributes`` what an image has or has not, where the source gives them.
    """

    def __init__(
        self, *, x_ND: Tensor, labels_N: Tensor, values: TargetTable | None = None,
        attributes: TargetTable | None = None,
    ) -> None:  # fmt: skip
        assert x_ND.ndim == 2
        assert all(len(part) == len(x_ND) for part in (labels_N, values, attributes) if part is not None)
        self.labels_N, self.values, self.attributes = labels_N, values, attributes
        self._stores: tuple[Tensor, ...] = (x_ND,)
        self._rows_N: Tensor | None = None  # places in the stores, counted through; None for all, in order

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def width(self) -> int:
        """D."""
        return self._stores[0].shape[1]

    @property
    def x_ND(self) -> Tensor:
        """All rows float32 [n, d] on the CPU: a copy where this is a part of more. For few images: probes take
        ``blocks`` and ``batch``."""
        if self._rows_N is None and len(self._stores) == 1:
            return self._stores[0].float()
        return self.batch(torch.arange(len(self)), CPU)

    def subset(self, indices: Tensor) -> "Features":
        """The images at ``indices`` (int64), in that order."""
        places = indices.numpy()
        return self._view(
            self._stores,
            indices if self._rows_N is None else self._rows_N[indices],
            self.labels_N[indices],
            None if self.values is None else self.values.subset(places),
            None if self.attributes is None else self.attributes.subset(places),
        )

    def joined(self, other: "Features") -> "Features":
        """These images, then the other's."""
        stores, offset = self._stores, 0
        if not self._shares_stores(other):
            offset = sum(map(len, stores))
            stores = stores + other._stores
        return self._view(
            stores,
            torch.cat([self.stored_rows, other.stored_rows + offset]),
            torch.cat([self.labels_N, other.labels_N]),
            None if self.values is None or other.values is None else self.values.joined(other.values),
            None if self.attributes is None or other.attributes is None else self.attributes.joined(other.attributes),
        )

    @property
    def stored_rows(self) -> Tensor:
        """Where the images lie in what was given as ``x_ND``, int64 [n]; joined stores are counted through."""
        return torch.arange(len(self)) if self._rows_N is None else self._rows_N

    def with_targets(
        self, values: TargetTable | None, attributes: TargetTable | None, *, labels_N: Tensor | None = None
    ) -> "Features":
        """The same images, with what else the source knows of them; ``labels_N`` None leaves their labels."""
        labels_N = self.labels_N if labels_N is None else labels_N
        return self._view(self._stores, self.stored_rows, labels_N, values, attributes)

    def in_stored_order(self) -> "Features":
        """The same images as they lie in the source, whatever split them and joined them again."""
        return self.subset(self.stored_rows.argsort())

    def batch(self, index_B: Tensor, device: torch.device) -> Tensor:
        """Rows float32 [b, d] of the images at ``index_B`` (int64), on ``device``."""
        rows_B = index_B if self._rows_N is None else self._rows_N[index_B]
        return self._fetch(rows_B).to(device, torch.float32)

    def blocks(self, device: torch.device, *, rows: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(Which images, their rows float32 [b, d] on ``device``), in order; at most ``rows`` of them at a time,
        and no more than the limits above."""
        size = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self.width)))
        size = size if rows is None else min(size, rows)
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            if self._rows_N is None and len(self._stores) == 1:
                yield part, self._stores[0][part].to(device, torch.float32)
            else:
                yield part, self.batch(torch.arange(part.start, part.stop), device)

    def _shares_stores(self, other: "Features") -> bool:
        return [id(store) for store in self._stores] == [id(store) for store in other._stores]

    def _fetch(self, rows_B: Tensor) -> Tensor:
        if len(self._stores) == 1:
            return self._stores[0].index_select(0, rows_B)
        x_BD = torch.empty(len(rows_B), self.width)
        first = 0
        for store in self._stores:
            inside_B = (rows_B >= first) & (rows_B < first + len(store))
            x_BD[inside_B] = store.index_select(0, rows_B[inside_B] - first).float()
            first += len(store)
        return x_BD

    @staticmethod
    def _view(
        stores: tuple[Tensor, ...], rows_N: Tensor, labels_N: Tensor, values: TargetTable | None,
        attributes: TargetTable | None,
    ) -> "Features":  # fmt: skip
        view = Features.__new__(Features)
        view.labels_N, view.values, view.attributes = labels_N, values, attributes
        view._stores, view._rows_N = stores, rows_N
        return view


def with_rows_of(other: Features, rows_ND: Tensor, views: Sequence[Features]) -> list[Features]:
    """The same views of one copy of their store in which the rows of ``other`` are ``rows_ND``; a view of another store
    stays as it is."""
    store_ND = torch.cat([store.float() for store in other._stores])
    store_ND[other.stored_rows] = rows_ND
    return [
        Features._view((store_ND,), view.stored_rows, view.labels_N, view.values, view.attributes)
        if view._shares_stores(other)
        else view
        for view in views
    ]
