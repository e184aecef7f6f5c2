"""The command line with two real ranks on the CPU: results, logs, and what is said of a rank that fails."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main

from .conftest import is_running, wait_for

SMALL = ("source.num_train=64", "source.num_test=16", "training.global_batch_size=8", "training.log_every_steps=1")
ENDLESS = (*SMALL, "training.epochs=5000", "checkpoint.every_epochs=5000")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "issl_engine", *map(str, arguments)]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)


class Training:
    """A run of two ranks that goes on until it is stopped, once it has made a step."""

    def __init__(self, out: Path) -> None:
        arguments = ("pretrain", "smoke", *ENDLESS, "--arm", "simclr", "--ranks", 2, "--out", out)
        self.supervisor = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        metrics = out / "simclr" / "seed0" / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, seconds=60)
        children = Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children").read_text()
        ranks = {_rank(int(text)): int(text) for text in children.split()}
        self.ranks = [ranks["0"], ranks["1"]]

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        _, errors = self.supervisor.communicate(timeout=30)
        assert not any(map(is_running, self.ranks))
        return self.supervisor.returncode, errors


def _rank(process_id: int) -> str | None:
    environment = Path(f"/proc/{process_id}/environ").read_bytes().split(b"\0")
    return next((one.partition(b"=")[2].decode() for one in environment if one.startswith(b"RANK=")), None)


@pytest.mark.long
def test_two_ranks_give_one_result_and_a_log_each(tmp_path: Path) -> None:
    done = call("run", "smoke", *SMALL, "--arm", "simclr", "controls=false", "--ranks", 2, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    assert done.stderr.startswith("2 ranks on 1 host, CPU/gloo\nall-reduce of 1 MiB: ")
    assert done.stderr.count("starting") == 1
    assert "2 ranks on 1 host, CPU/gloo" in (tmp_path / "logs" / "rank0.log").read_text()
    assert "INFO" not in (tmp_path / "logs" / "rank1.log").read_text()
    assert json.loads(next(tmp_path.glob("simclr/seed0/checkpoints/*/manifest.json")).read_text())["world_size"] == 2


def test_a_rank_that_is_killed_is_named_once_and_the_other_ends_with_it(tmp_path: Path) -> None:
    training = Training(tmp_path)
    os.kill(training.ranks[1], signal.SIGKILL)
    code, errors = training.end()
    assert code == 1
    (line,) = (line for line in errors.splitlines() if "error" in line.lower())
    assert re.match(r"error: rank 1 on \S+: killed by SIGKILL", line)
    assert "Traceback" not in errors
    assert "lost the connection" not in errors
    assert errors.startswith("2 ranks on 1 host, CPU/gloo\nall-reduce of 1 MiB: ")
    assert errors.count("starting") == 1
    assert "INFO" not in (tmp_path / "logs" / "rank1.log").read_text()
    assert "gloo/transport" in (tmp_path / "logs" / "rank0.log").read_text()  # what followed is kept there


def test_sigterm_to_the_supervisor_saves_and_another_run_is_kept_out_meanwhile(tmp_path: Path) -> None:
    training = Training(tmp_path)
    arguments = ["pretrain", "smoke", *ENDLESS, "--arm", "simclr", "--ranks", "2", "--out", str(tmp_path)]
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 1
    assert re.fullmatch(
        rf"error: {tmp_path}: another run is at work in this folder \(process {training.ranks[0]} on \S+, since \S+\); "
        r"wait for it or choose another --out\n",
        second.stderr,
    )
    training.supervisor.send_signal(signal.SIGTERM)
    code, errors = training.end()
    assert code == 75
    assert errors.count("stopped by SIGTERM at step") == 1
    assert len(list(tmp_path.glob("simclr/seed0/checkpoints/step_*/manifest.json"))) == 1


@pytest.mark.long
def test_killing_the_supervisor_ends_its_ranks(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.supervisor.kill()
    training.supervisor.communicate()
    wait_for(lambda: not any(map(is_running, training.ranks)), seconds=3)


def test_preflight_shows_all_ranks_and_says_once_what_all_find_wrong(tmp_path: Path) -> None:
    done = call(
        "preflight", "smoke", *SMALL, "training.global_batch_size=128", "--ranks", 2, "--out", tmp_path, "--json"
    )
    assert done.returncode == 1
    reports = json.loads(done.stdout)["reports"]
    assert [report["facts"]["rank"] for report in reports] == [0, 1]
    assert all(report["link"]["sum_is_right"] and report["link"]["mb_per_second"] > 1 for report in reports)
    assert all(abs(report["link"]["clock_ahead_seconds"]) < 0.5 for report in reports)
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert line.startswith("error: training.global_batch_size (128) is larger than the training split of shapes")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--ranks", "0"), 2, "Invalid value for '--ranks'"),
        (
            ("--ranks", "3"),
            1,
            "must be a multiple of ranks x accumulation_steps (3 x 1 = 3); the nearest that works is 6 or",
        ),
        (("--ranks", "2", "--hostfile", "hosts"), 1, "--ranks and --hostfile both say how many ranks there are"),
        (("--hostfile", "nowhere"), 1, "nowhere: the hostfile cannot be read"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    arguments: tuple[str, ...], code: int, sentence: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["run", "smoke", *SMALL, *arguments, "--out", str(tmp_path / "run")])
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_chosen_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        done = CliRunner().invoke(main, ["run", "smoke", *SMALL, "--ranks", "2", "--out", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert re.fullmatch(r"error: MASTER_PORT \d+ is taken by another process on \S+; .*\n", done.stderr)
    assert not (tmp_path / "run").exists()
