"""What a run says of where its time goes: the shares of a logged line, and the alarm when data is late."""

import json
import logging
import time
from pathlib import Path

import pytest
import torch

from issl_engine.loading import TrainingViews
from issl_engine.objectives.base import Progress
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import DataConfig
from issl_engine.sources.base import Dataset
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.alarms import DataAlarm
from issl_engine.training.watch.balance import DeviceTimer, Interval
from issl_engine.views.batch import MultiCropBatch

from ..conftest import make_recipe

CPU = torch.device("cpu")
PROGRESS = Progress(step=2, steps_per_epoch=4, total_steps=8)


def test_shares_of_data_device_and_host_are_distinguished_and_add_up() -> None:
    interval = Interval(8, CPU)
    for loss in (1.0, 3.0):
        with interval.step_timer:
            time.sleep(0.06)  # of which 0.02 are said to be spent without data
        interval.add(loss, 0.02)
        time.sleep(0.04)
    record = interval.close(PROGRESS, lr=0.1)
    shares = [record[f"{name}_fraction"] for name in ("data", "device", "host")]
    assert sum(shares) == pytest.approx(1)
    # Sleeping may take longer than asked for, on a busy machine much longer: only the order is certain.
    assert 0 < shares[0] < shares[1]
    assert shares[2] > 0
    assert record["loss"] == 2
    assert interval.steps == 0


def test_an_interval_begins_where_the_last_one_ended() -> None:
    interval = Interval(8, CPU)
    with interval.step_timer:
        time.sleep(0.05)
    interval.add(1.0, 0.0)
    interval.close(PROGRESS, lr=0.1)
    assert interval.step_timer.take() == 0


@pytest.mark.gpu
def test_on_a_gpu_the_device_s_time_is_measured_without_waiting_for_it() -> None:
    timer = DeviceTimer(torch.device("cuda"))
    x = torch.rand(4096, 4096, device="cuda")
    with timer:
        for _ in range(20):
            x = x @ x
            x /= x.norm()
    assert not torch.cuda.current_stream().query(), "the device was waited for"
    assert timer.take() > 0


def test_metrics_hold_the_three_shares(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(make_recipe("simclr"), dataset, start_ranks(), folder=tmp_path, seed=0)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["data_fraction"] + record["device_fraction"] + record["host_fraction"] == pytest.approx(1)


def test_a_slow_loader_is_reported_once_with_the_keys_that_help(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    healthy = TrainingViews.__next__

    def slow(self: TrainingViews) -> MultiCropBatch:
        time.sleep(0.2)
        return healthy(self)

    monkeypatch.setattr(TrainingViews, "__next__", slow)
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        pretrain(make_recipe("simclr"), dataset, start_ranks(), folder=tmp_path, seed=0)
    (message,) = [record.getMessage() for record in caplog.records if "waits for data" in record.getMessage()]
    assert "issl-engine bench data" in message
    assert "data.decode_threads is 1" in message


def test_one_slow_interval_is_no_alarm() -> None:
    alarm = DataAlarm(DataConfig())
    assert not any(alarm.observe(fraction, step) for step, fraction in enumerate((0.9, 0.9, 0.05, 0.9, 0.9)))
    assert alarm.observe(0.9, 6)
    assert not alarm.observe(0.9, 7)
