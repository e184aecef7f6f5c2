"""The harness that runs ranks: their results in order, and why and which of them failed."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from issl_engine.ranks import Ranks

RunRanks = Callable[..., list[Any]]


def meet(ranks: Ranks, word: str) -> tuple[int, list[int], str, str]:
    return ranks.rank, ranks.gather(ranks.rank), word, os.environ["ISSL_ENGINE_CACHE"]


def fail_on_the_second(ranks: Ranks) -> None:
    if ranks.rank == 1:
        raise RuntimeError("nothing is well")
    ranks.barrier()


def hang_on_the_first(ranks: Ranks) -> None:
    if ranks.is_first:
        time.sleep(600)


def number_of_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_results_come_in_the_order_of_the_ranks(run_ranks: RunRanks) -> None:
    cache = os.environ["ISSL_ENGINE_CACHE"]
    assert run_ranks(meet, "here", world_size=3) == [(rank, [0, 1, 2], "here", cache) for rank in range(3)]


def test_a_rank_that_fails_is_named_with_its_traceback(run_ranks: RunRanks) -> None:
    with pytest.raises(AssertionError, match=r"rank 1 ended with 1; its log:\n(.*\n)*RuntimeError: nothing is well"):
        run_ranks(fail_on_the_second)


def test_a_rank_that_hangs_is_ended_in_time(run_ranks: RunRanks) -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"rank 0 was ended after 3 s"):
        run_ranks(hang_on_the_first, limit_seconds=3)
    assert time.monotonic() - began < 60


def test_a_process_alone_has_one_thread(run_alone: Callable[..., Any]) -> None:
    assert run_alone(number_of_threads) == 1
