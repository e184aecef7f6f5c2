"""How ranks meet: by which interface, within which time, and what is said when they do not."""

import os
import socket
from datetime import timedelta

import pytest
import torch

from issl_engine import ranks
from issl_engine.ranks import RanksDidNotMeet, failed_meeting, interface_towards
from issl_engine.recipe.schema import TrainingConfig
from issl_engine.training.plan import check_batch_size


def test_the_interface_towards_this_machine_is_the_loopback_one() -> None:
    assert interface_towards("127.0.0.1") == "lo"


def test_an_interface_that_cannot_be_found_out() -> None:
    assert interface_towards("no.such.host.invalid") is None


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is rank 0 of two; GLOO_SOCKET_IFNAME, which meeting sets, comes back as it was."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("two_ranks")
def test_a_port_that_is_taken_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(ValueError, match=f"MASTER_PORT {port} is taken by another process"):
            ranks._meet(0, 2, torch.device("cpu"), timedelta(seconds=5))


@pytest.mark.usefixtures("two_ranks")
def test_ranks_that_do_not_come_are_reported_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    with pytest.raises(RanksDidNotMeet, match=r"the 2 ranks did not meet at 127.0.0.1:\d+ .* within 1 s"):
        ranks._meet(0, 2, torch.device("cpu"), timedelta(seconds=1))


def test_the_sentence_is_one_line() -> None:
    assert "\n" not in str(failed_meeting("Timed out\nC++ stack\n", 2, timedelta(seconds=1)))


@pytest.mark.parametrize(("text", "seconds"), [(None, 1800.0), ("45", 45.0)])
def test_the_time_limit_comes_from_the_environment(
    text: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISSL_RANKS_TIMEOUT_SECONDS", raising=False)
    if text is not None:
        monkeypatch.setenv("ISSL_RANKS_TIMEOUT_SECONDS", text)
    assert ranks._timeout_from_environment() == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "inf", "nan"])
def test_a_time_limit_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSL_RANKS_TIMEOUT_SECONDS", text)
    with pytest.raises(ValueError, match=r"ISSL_RANKS_TIMEOUT_SECONDS is .* number of seconds above 0"):
        ranks._timeout_from_environment()


def test_a_rank_without_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert ranks._device(1) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="LOCAL_RANK is 2, and this host has 2 GPUs"):
        ranks._device(2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert ranks._device(2) == torch.device("cuda", 0)  # the only one that its launcher shows it


@pytest.mark.parametrize(
    ("batch", "accumulation", "world_size", "nearest"),
    [(30, 1, 4, "28 or 32"), (30, 2, 4, "24 or 32"), (5, 1, 8, "8")],
)
def test_a_batch_that_does_not_divide_comes_with_the_nearest_that_do(
    batch: int, accumulation: int, world_size: int, nearest: str
) -> None:
    training = TrainingConfig(epochs=1, global_batch_size=batch, accumulation_steps=accumulation)
    with pytest.raises(ValueError, match=f"must be a multiple of .*; the nearest that works is {nearest}$"):
        check_batch_size(training, world_size)
    check_batch_size(training.model_copy(update={"global_batch_size": int(nearest.split()[-1])}), world_size)


@pytest.mark.gpu
def test_a_lone_rank_on_a_gpu_meets_by_nccl() -> None:
    lone = ranks.start_ranks()
    assert lone.device == torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    assert torch.distributed.get_backend() == "nccl"
