"""A claim is supported, refuted or not settled by its interval, and by nothing else."""

import pytest

from issl_engine.probing.judging.student_t import half_width
from issl_engine.theory.points import Point
from issl_engine.theory.verdicts import Claim, differences, judge, values


def claim(*found: float, above: float | None = None, below: float | None = None) -> Claim:
    return Claim(sentence="s", quantity="q", values=found, above=above, below=below)


@pytest.mark.parametrize(
    ("made", "decision"),
    [
        (claim(5, 6, 7, above=0), "supported"),
        (claim(-5, -6, -7, above=0), "refuted"),
        (claim(-1, 0.5, 3, above=0), "not settled"),  # the mean is above, the interval is not
        (claim(1, 1.1, 1.2, below=2), "supported"),
        (claim(5, 6, 7, below=2), "refuted"),
        (claim(1, 2, 3, below=2), "not settled"),
        (claim(0.1, 0.0, -0.1, above=-1, below=1), "supported"),
        (claim(3, 3.1, 2.9, above=-1, below=1), "refuted"),
        (claim(-3, -3.1, -2.9, above=-1, below=1), "refuted"),
        (claim(0.8, 0.9, 1.0, above=-1, below=1), "not settled"),
        (claim(0, 0, 0, above=0), "refuted"),  # exactly on the bound, with no doubt left, is not above it
        (claim(7, above=0), "not settled"),  # one seed
    ],
)
def test_the_interval_decides(made: Claim, decision: str) -> None:
    assert judge(made).decision == decision


def test_the_interval_is_students() -> None:
    found = judge(claim(1.0, 2.0, 4.0, above=0))
    half = half_width([1.0, 2.0, 4.0])
    assert (found.low, found.high) == pytest.approx((7 / 3 - half, 7 / 3 + half))
    assert found.rule == "interval above 0"
    assert str(found).startswith("NOT SETTLED: s [q: 2.33, 95 % interval ")


def test_an_interval_does_not_reach_beyond_what_a_quantity_can_be() -> None:
    made = Claim(sentence="s", quantity="q", values=(0.0, 0.2, 3.0), below=20, limits=(0, 100))
    assert judge(made).low == 0
    assert judge(made).decision == "supported"
    high = Claim(sentence="s", quantity="q", values=(1.0, 0.9, 0.98), above=0, limits=(-1, 1))
    assert judge(high).high == 1


def test_differences_are_taken_within_a_seed() -> None:
    """Seeds differ by 100; the difference between the two series is always 1."""
    points = [
        Point(series=series, x=7, metric="m", seed=seed, value=100 * seed + (series == "b"))
        for series, seeds in (("a", (0, 1, 2)), ("b", (2, 1, 3)))
        for seed in seeds
    ]
    assert differences(points, ("b", 7, "m"), ("a", 7, "m")) == (1, 1)
    assert values(points, ("b", 7, "m")) == (101, 201, 301)
    assert differences(points, ("b", 7, "m"), ("c", 7, "m")) == ()
