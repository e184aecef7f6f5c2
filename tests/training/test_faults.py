"""Ranks that are killed at any moment lose no more than the steps since the last checkpoint: started again with the
same command, they end with the same weights and losses as a run that nothing happened to, bit for bit."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .fault_ranks import KINDS, Try, try_all


def test_three_kills_change_nothing(tmp_path: Path, run_alone: Callable[..., Any]) -> None:
    tries = [
        Try(seed=1, kind="checkpoint", late=True), Try(seed=2, kind="all-reduce", both=True, late=True),
        Try(seed=3, kind="epoch", late=True),
    ]  # fmt: skip
    for case, outcome in zip(tries, run_alone(try_all, tmp_path, tries, limit_seconds=300), strict=True):
        ((kind, _, _, saved_step),) = outcome.killed
        assert kind == case.kind
        assert saved_step > 0 or kind != "checkpoint"  # that write began when the one before it was complete
        assert outcome.unequal == [], (case, outcome)
    assert list(tmp_path.glob("*/checkpoints/.*")) == []


@pytest.mark.long
def test_thirty_kills_change_nothing(tmp_path: Path, run_alone: Callable[..., Any]) -> None:
    tries = [
        Try(seed=100 + number, kind=KINDS[number % len(KINDS)], zero_stage=2 if number % 3 == 2 else 0,
            both=number % 5 == 4, kills=2 if number % 7 == 6 else 1)
        for number in range(26)
    ]  # fmt: skip
    assert sum(one.kills for one in tries) >= 29
    tries.append(Try(seed=200, kind="checkpoint", zero_stage=2))
    found = run_alone(try_all, tmp_path, tries, limit_seconds=3000)
    for case, outcome in zip(tries, found, strict=True):
        print(case, outcome)
        assert outcome.unequal == [], (case, outcome)
    kinds = Counter(killed[0] for outcome in found for killed in outcome.killed)
    assert sum(kinds.values()) >= 30
    assert min(kinds[kind] for kind in KINDS) >= 6
    assert list(tmp_path.glob("*/checkpoints/.*")) == []
