"""A disk that is full or read-only ends a run in one sentence, and what was saved before is whole; once there is space
again the same command goes on as if nothing had happened. Mounts a small file system, which only root may."""

import gc
import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from issl_engine.cli import main
from issl_engine.training.checkpoints.verify import latest_checkpoint, verify_checkpoint
from issl_engine.training.metrics import MetricsLog

SMALL = (
    "source.num_train=40", "source.num_test=16", "training.global_batch_size=8", "training.epochs=2",
    "training.log_every_steps=1", "checkpoint.every_epochs=0.4", "checkpoint.keep=1", "training.threads=1",
)  # fmt: skip
"""Ten steps, a checkpoint every second."""


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", folder], check=True)


def unmount(folder: Path) -> None:
    gc.collect()  # files that a failed run's frames hold open
    subprocess.run(["umount", "--recursive", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


def pretrain(folder: Path) -> Result:
    return CliRunner().invoke(main, ["pretrain", "smoke", "--arm", "simclr", "--out", str(folder), *SMALL])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "simclr/seed0/metrics.jsonl").read_text().splitlines()]


def newest(folder: Path) -> Path:
    found = latest_checkpoint(folder / "simclr/seed0/checkpoints")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert pretrain(folder / "run").exit_code == 0
    return folder / "run"


def after_step(step: int, do: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``do`` is called once the line of a step is written."""
    write = MetricsLog.write

    def wrapped(log: MetricsLog, record: dict[str, Any]) -> None:
        write(log, record)
        if record["step"] == step:
            do()

    monkeypatch.setattr(MetricsLog, "write", wrapped)


def assert_one_sentence(result: Result, reason: str) -> None:
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert reason in line
    assert "Traceback" not in result.output
    assert "Logging error" not in result.output


def assert_goes_on_as_if_nothing_had_happened(run: Path, whole: Path) -> None:
    done = pretrain(run)
    assert done.exit_code == 0, done.output
    assert "resumed from" in done.stderr
    assert losses(run) == losses(whole)
    a, b = (load_file(newest(folder) / "encoder.safetensors") for folder in (run, whole))
    assert all(a[name].equal(b[name]) for name in b)


def test_a_disk_that_training_fills(disk: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        after_step(5, lambda: fill(disk), patch)
        assert_one_sentence(pretrain(disk / "run"), "No space left on device")
    assert verify_checkpoint(newest(disk / "run")).step == 4
    assert_one_sentence(pretrain(disk / "run"), "No space left on device")
    (disk / "filler").unlink()
    assert_goes_on_as_if_nothing_had_happened(disk / "run", whole)
    assert list((disk / "run").rglob(".partial*")) == []


def test_checkpoints_that_become_read_only(disk: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = disk / "run/simclr/seed0/checkpoints"

    def make_read_only() -> None:
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,ro", folder)

    with monkeypatch.context() as patch:
        after_step(5, make_read_only, patch)
        assert_one_sentence(pretrain(disk / "run"), "Read-only file system")
    assert verify_checkpoint(newest(disk / "run")).step == 4
    assert_one_sentence(pretrain(disk / "run"), "Read-only file system")
    unmount(folder)
    assert_goes_on_as_if_nothing_had_happened(disk / "run", whole)


def test_a_run_folder_that_is_read_only(disk: Path) -> None:
    mount("-o", "remount,ro", disk)
    assert_one_sentence(pretrain(disk / "run"), "Read-only file system")


def test_a_line_of_metrics_is_there_whole_or_not_at_all(disk: Path) -> None:
    log = MetricsLog(disk, resume_step=0)
    log.write({"step": 0, "loss": 0.5})  # so that a page is there for some more
    fill(disk)

    def write_on() -> None:
        for step in range(1, 1000):
            log.write({"step": step, "loss": 0.123456789})

    with pytest.raises(ValueError, match=r"metrics.jsonl: the line of step \d+ could not be written \(No space left"):
        write_on()
    log.close()
    steps = [json.loads(line)["step"] for line in (disk / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(len(steps)))
    assert len(steps) > 10
