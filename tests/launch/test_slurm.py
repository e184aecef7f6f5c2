"""The batch script, run by bash; srun and scontrol, which this machine does not have, are small scripts."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.launch.slurm import SlurmJob, batch_script

JOB = SlurmJob(arguments=("run", "smoke"), nodes=2, gpus_per_node=4, time_limit="01:00:00", job_name="smoke")

SCONTROL = """#!/bin/sh
echo "$@" >> scontrol.log
if [ "$1" = show ]; then printf 'node3\\nnode4\\n'; fi
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["slurm", *map(str, arguments)])


def submit(script: str, folder: Path, srun: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as Slurm would, with these srun and scontrol."""
    for name, text in (("srun", srun), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = folder / "job.sh"
    path.write_text(script)
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "71",
        "SLURM_JOB_NODELIST": "n",
    }
    return subprocess.run(["bash", path], env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return batch_script(JOB)


@pytest.mark.parametrize(
    ("srun_code", "code", "requeued"),
    [(0, 0, False), (75, 0, True), (1, 1, False), (137, 137, False)],
    ids=["finished", "time-out", "error", "killed"],
)
def test_only_a_run_that_ran_out_of_time_is_queued_again(
    srun_code: int, code: int, requeued: bool, script: str, tmp_path: Path
) -> None:
    done = submit(script, tmp_path, f"#!/bin/sh\nexit {srun_code}\n")
    assert done.returncode == code
    assert done.stderr == ""
    assert ("requeue 71" in (tmp_path / "scontrol.log").read_text().splitlines()) == requeued


def test_ranks_get_the_first_node_and_a_port(script: str, tmp_path: Path) -> None:
    done = submit(script, tmp_path, '#!/bin/sh\necho "$MASTER_ADDR $MASTER_PORT"; echo "$@"\n')
    where, command = done.stdout.splitlines()
    assert where == "node3 20071"
    assert command.startswith("--kill-on-bad-exit=0 --wait=0 /")
    assert command.endswith("-m issl_engine run smoke")


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    result = call(
        "smoke", "seeds=[0, 1]", "--nodes", 2, "--gpus-per-node", 4, "--time", "12:30:00", "--partition", "gpu",
        "--account", "lab", "--job-name", "try", "--out", "runs/it's", "--setup", "module load cuda\nulimit -c 0",
        "--write", tmp_path / "job.sh",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, "")
    text = (tmp_path / "job.sh").read_text()
    options = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        "job-name=try", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=12:30:00", "partition=gpu",
        "account=lab", "signal=TERM@120", "output=try-%j.log", "requeue", "open-mode=append",
    ]  # fmt: skip
    setup, command = text.index("\nmodule load cuda\nulimit -c 0\n"), text.index("\nsrun ")
    assert setup < command
    assert """run smoke 'seeds=[0, 1]' --out 'runs/it'"'"'s'\n""" in text
    assert subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=False).returncode == 0


def test_the_script_is_the_only_output() -> None:
    result = call("smoke", "--nodes", 1, "--gpus-per-node", 1, "--time", "01:00:00")
    assert result.exit_code == 0
    assert result.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --partition" not in result.stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--time", "1h"), "--time is '1h'; write it as HH:MM:SS"),
        (("--time", "00:02:00"), "the last 120 s are kept for saving; give at least 00:05:00"),
        (("--job-name", "a b"), "--job-name is 'a b'; Slurm takes letters"),
        (("--account", "x\n#SBATCH --nodes=99"), "--account is 'x"),
        (("--gpus-per-node", "7"), "must be a multiple of ranks x accumulation_steps (7 x 1 = 7)"),
    ],
)
def test_what_slurm_would_not_take(change: tuple[str, str], sentence: str) -> None:
    result = call("smoke", "--nodes", 1, "--gpus-per-node", 1, "--time", "01:00:00", *change)
    assert result.exit_code == 1
    assert sentence in result.stderr


TASKS = """#!/bin/bash
# As srun: a task per rank, the signal before the time limit to each, the highest exit code of all.
export SLURM_NTASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=node3 MASTER_ADDR=127.0.0.1
shift 2
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    tasks+=($!)
done
if [ ! -e once ]; then
    for _ in $(seq 600); do
        [ -s run/simclr/seed0/metrics.jsonl ] && break
        sleep 0.05
    done
    touch once
    kill -TERM "${tasks[@]}"
fi
code=0
for task in "${tasks[@]}"; do
    wait "$task"
    last=$?
    [ $last -gt $code ] && code=$last
done
exit $code
"""


@pytest.mark.long
def test_a_run_that_ran_out_of_time_saves_and_its_second_job_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    overrides = ("source.num_train=64", "source.num_test=16", "training.global_batch_size=8", "training.epochs=40",
                 "training.log_every_steps=1", "checkpoint.every_epochs=100")  # fmt: skip
    arguments = ("pretrain", "smoke", *overrides, "--arm", "simclr", "--out", "run", "--json")
    job = SlurmJob(arguments=arguments, nodes=1, gpus_per_node=2, time_limit="01:00:00", job_name="smoke")
    first = submit(batch_script(job), tmp_path, TASKS)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("stopped by SIGTERM at step") == 1  # reported by one rank
    assert "stops because of" not in first.stderr
    assert "queued again" in first.stdout
    second = submit(batch_script(job), tmp_path, TASKS)
    assert second.returncode == 0, second.stderr
    assert "resumed from run/simclr/seed0/checkpoints/step_" in second.stderr
    assert "step_00000320" in second.stdout
    assert (tmp_path / "scontrol.log").read_text().count("requeue") == 1
