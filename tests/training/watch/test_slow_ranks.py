"""A rank that is slow by its own doing is named once; one that waits for it is not."""

import time
from typing import Any

import pytest
import torch
from torch import nn

from issl_engine.ranks import Ranks
from issl_engine.training.watch.slow_ranks import OwnWork, SlowRankAlarm

CPU = torch.device("cpu")


@pytest.fixture
def alarm() -> SlowRankAlarm:
    """Of rank 0, of four on two hosts."""
    ranks = Ranks(rank=0, world_size=4, device=CPU, group=None)
    alarm = SlowRankAlarm(ranks, OwnWork(nn.Identity(), CPU, compiled=False))
    alarm._slow_lines, alarm.hosts = [0] * 4, ["a", "a", "b", "b"]
    return alarm


def times(*pairs: tuple[float, float]) -> torch.Tensor:
    """(seconds in data, in compute) of each rank."""
    return torch.tensor(pairs)


def test_a_rank_whose_data_is_slow_is_named_once_with_its_host(
    alarm: SlowRankAlarm, caplog: pytest.LogCaptureFixture
) -> None:
    line = times((0.1, 1.0), (0.1, 1.1), (0.1, 1.0), (0.9, 1.0))
    assert [alarm.judge(line, step) for step in (10, 20, 30, 40, 50)] == [[], [], [3], [], []]
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("step 30: rank 3 on host b took 1.90 s since the last line for what took others 1.10 s")
    assert "it waits for images" in message


def test_a_rank_whose_computing_is_slow(alarm: SlowRankAlarm, caplog: pytest.LogCaptureFixture) -> None:
    line = times((0.1, 1.0), (0.0, 1.8), (0.1, 1.0), (0.1, 1.0))
    assert [alarm.judge(line, step) for step in (1, 2, 3)] == [[], [], [1]]
    assert "rank 1 on host a" in caplog.text
    assert "its computing is slow" in caplog.text


def test_three_lines_must_follow_each_other(alarm: SlowRankAlarm) -> None:
    slow, even = times((0, 1), (0, 1), (0, 1), (0, 2)), times((0, 1), (0, 1), (0, 1), (0, 1))
    assert [alarm.judge(line, 0) for line in (slow, slow, even, slow, slow, slow)] == [[], [], [], [], [], [3]]


def test_a_little_slower_is_not_slow(alarm: SlowRankAlarm) -> None:
    assert not any(alarm.judge(times((0, 1), (0, 1), (0, 1.4), (0, 1)), step) for step in range(9))


def test_of_two_ranks_the_slower_is_named(alarm: SlowRankAlarm) -> None:
    alarm._slow_lines = [0, 0]
    assert [alarm.judge(times((0, 1), (0, 1.6)), step) for step in range(3)] == [[], [], [1]]


class WaitingBatchNorm(nn.BatchNorm1d):
    """Stands for a synchronised one, which waits for the slowest rank."""

    def __init__(self, group: Any) -> None:
        super().__init__(4)
        self.group = group

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1)
        return super().forward(input)


class Working(nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        time.sleep(0.03)
        return input


@pytest.mark.parametrize(
    ("group", "compiled", "least", "most"),
    [
        ("all ranks", False, 0.03, 0.09),
        (None, False, 0.15, 0.5),
        ("all ranks", True, 0.0, 0.0),
        (None, True, 0.15, 0.5),
    ],
)
def test_own_work_ends_where_batch_norm_waits_for_others(group: Any, compiled: bool, least: float, most: float) -> None:
    encoder = nn.Sequential(Working(), WaitingBatchNorm(group), Working())
    own = OwnWork(encoder, CPU, compiled=compiled)
    with own:
        encoder(torch.randn(8, 4))
    encoder(torch.randn(8, 4))  # not inside: does not count
    assert least <= own.take() <= most
    assert own.take() == 0
