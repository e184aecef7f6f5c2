"""Work by threads, in order, not far ahead."""

import itertools
import threading
import time

import pytest

from issl_engine.sources.images.ordered_threads import AHEAD, map_in_order


def test_results_come_in_the_order_of_the_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.002 if item % 3 == 0 else 0)
        return item * item

    assert list(map_in_order(work, range(100), threads=4)) == [item * item for item in range(100)]


def test_threads_are_a_bounded_number_of_items_ahead() -> None:
    begun = itertools.count()
    results = map_in_order(lambda item: next(begun), itertools.count(), threads=2)
    for _ in range(5):
        next(results)
    results.close()
    assert next(begun) <= 2 * AHEAD + 5


def test_what_has_not_begun_is_given_up() -> None:
    begun = itertools.count()

    def work(item: int) -> None:
        next(begun)
        time.sleep(0.05)

    results = map_in_order(work, range(100), threads=2)
    next(results)
    results.close()
    assert next(begun) < 2 * AHEAD


def test_an_error_comes_at_its_place_and_ends_the_work() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = map_in_order(work, range(1000), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert threading.active_count() < 10
