"""How many ranks a command starts: by the machine, by what was asked for, by whether a launcher has started it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from issl_engine.commands.launching import hosts_to_start
from issl_engine.commands.options import LaunchOptions
from issl_engine.launch.hosts import Host
from issl_engine.launch.rank_environment import host_name


def options(*, ranks: int | None = None, hostfile: Path | None = None) -> LaunchOptions:
    return LaunchOptions(ranks=ranks, hostfile=hostfile, remote_shell="ssh", connect_timeout_seconds=30)


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("num_gpus", "asked", "started"), [(0, None, None), (0, 1, None), (0, 3, 3), (1, None, None),
                                                            (8, None, 8), (8, 2, 2), (8, 1, None)])  # fmt: skip
def test_one_process_a_gpu_unless_asked_otherwise(
    num_gpus: int, asked: int | None, started: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, num_gpus)
    expected = None if started is None else (Host(name=host_name(), slots=started),)
    assert hosts_to_start(options(ranks=asked)) == expected


def test_more_ranks_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match="--ranks is 3, and this machine has 2 GPUs; start at most one rank per GPU"):
        hosts_to_start(options(ranks=3))


@pytest.mark.parametrize("name", ["--ranks", "--hostfile"])
def test_a_launcher_decides_how_many_ranks_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert hosts_to_start(options()) is None
    asked = options(ranks=2) if name == "--ranks" else options(hostfile=Path("hosts"))
    with pytest.raises(ValueError, match=f"^{name}: a launcher has started this process as rank 1 of 2"):
        hosts_to_start(asked)
    monkeypatch.setenv("ISSL_FAILURE_PIPE", "9")  # our own supervisor's ranks have its command line
    assert hosts_to_start(asked) is None


def test_a_hostfile_is_read(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a slots=2\n")
    assert hosts_to_start(options(hostfile=tmp_path / "hosts")) == (Host(name="a", slots=2),)


def test_a_supervisor_does_without_deepspeed_and_its_agent_without_torch() -> None:
    code = "import sys, {}; sys.exit(' '.join({} & sys.modules.keys()) or 0)"
    for module, libraries in (
        ("issl_engine.commands.launching", {"deepspeed"}),
        ("issl_engine.launch.agent", {"deepspeed", "nvidia.dali", "torch", "pydantic"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module, libraries)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_all_gpus_are_used_and_fewer_when_asked(tmp_path: Path) -> None:
    num_gpus = torch.cuda.device_count()
    batch = f"training.global_batch_size={8 * num_gpus}"
    command = [sys.executable, "-m", "issl_engine", "preflight", "smoke", batch, "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"rank":') == num_gpus
    assert done.stdout.count('"uuid":') == num_gpus
