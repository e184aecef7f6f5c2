"""Work on many items by threads, results in the items' order, only a few ahead of who takes them."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

AHEAD = 16
"""Items per thread that are under way or wait to be taken: this bounds the memory, however many items there are."""


def map_in_order(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, threads: int | None = None
) -> Generator[ResultT, None, None]:
    """``work`` of each item, by ``threads`` threads (by default one per core). Raises what ``work`` raises, at its
    place in the order. Close it to leave early: what has not begun is given up."""
    threads = threads or len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads)
    under_way: deque[Future[ResultT]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= AHEAD * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
