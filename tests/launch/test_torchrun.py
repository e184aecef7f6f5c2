"""Under another launcher there is no supervisor: ranks join, and agree among themselves which of them speaks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("source.num_train=64", "source.num_test=16", "training.global_batch_size=8", "training.log_every_steps=1")


def torchrun(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_ranks_of_torchrun_give_one_result(tmp_path: Path) -> None:
    arguments = ("-m", "issl_engine", "pretrain", "smoke", *SMALL, "--arm", "simclr", "--out", "run", "--json")
    done = torchrun(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"].endswith("step_00000008")
    assert done.stderr.count("2 ranks on 1 host, CPU/gloo") == 1
    manifest = next(tmp_path.glob("run/simclr/seed0/checkpoints/*/manifest.json"))
    assert json.loads(manifest.read_text())["world_size"] == 2


FAILING = """
import os, sys
from issl_engine.run import experiment
from issl_engine.cli import main

def fails(*arguments, **settings):
    raise OSError(28, "No space left on device", "/data/x")

if os.environ["RANK"] == "1":
    experiment.run_arm = fails
main(prog_name="issl-engine")
"""


@pytest.mark.long
def test_a_rank_that_fails_speaks_and_the_other_says_only_whose_failure_stops_it(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    done = torchrun("failing.py", "pretrain", "smoke", *SMALL, "--arm", "simclr", "--out", "run", folder=tmp_path)
    assert done.returncode != 0
    ours = [
        line for line in done.stderr.splitlines() if re.match("error:|rank ", line)
    ]  # torchrun says more, at length
    assert len(ours) == 2, done.stderr
    assert re.fullmatch(r"error: rank 1 on \S+: /data/x: No space left on device", ours[0])
    assert re.fullmatch(r"rank 0 stops because of rank 1 on \S+", ours[1])
