"""The order in which rows are visited in an epoch: shuffled, and kind to disks where the rows do not fit into memory.

Rows of a mapped file that are drawn at random cost far more reading than they are long: around a page that is not in
memory Linux reads 128 KiB, and more where the disk is set so (``issl-engine bench features`` measures it). Here runs of
neighbouring rows are drawn at random until a buffer is full, the rows in it are shuffled, and then the next buffer
comes: what is read around a row is used soon.

Letters: N rows.
"""

import torch
from torch import Tensor

RUN_BYTES = 2**19
"""Neighbouring rows that are read together: longer than what is read ahead at its ends, and short, because neighbours
are often of one class."""
BUFFER_BYTES = 2**31
"""Rows that are shuffled with each other; the system's memory for files should hold as much. Where there are no more
rows, the order is a plain permutation."""


def epoch_order(
    num_rows: int, row_bytes: int, generator: torch.Generator, *, buffer_bytes: int = BUFFER_BYTES,
    run_bytes: int = RUN_BYTES,
) -> Tensor:  # fmt: skip
    """A permutation of the rows, int64 [n]."""
    if num_rows * row_bytes <= buffer_bytes:
        return torch.randperm(num_rows, generator=generator)
    run = max(1, run_bytes // row_bytes)
    buffer = max(1, buffer_bytes // row_bytes)
    starts = run * torch.randperm(-(-num_rows // run), generator=generator)
    order_N = (starts[:, None] + torch.arange(run)).flatten()
    order_N = order_N[order_N < num_rows]
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in order_N.split(buffer)])
