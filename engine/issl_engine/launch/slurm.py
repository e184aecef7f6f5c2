"""A batch script for Slurm: one task per GPU, a signal before the time limit, queued again until the run is done."""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from issl_engine.launch.failure import INTERRUPTED_EXIT_CODE
from issl_engine.mistakes import Mistake

SECONDS_TO_SAVE = 120
"""From the signal to the time limit."""
SHORTEST_SECONDS = 300
TIME_LIMIT = re.compile(r"(\d+):([0-5]\d):([0-5]\d)")
WORD = re.compile(r"[A-Za-z0-9_.,:@/+-]+")


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """``arguments`` follow 'issl-engine'; ``time_limit`` is HH:MM:SS; ``setup`` are shell commands."""

    arguments: tuple[str, ...]
    nodes: int
    gpus_per_node: int
    time_limit: str
    job_name: str
    partition: str | None = None
    account: str | None = None
    setup: str = ""


def batch_script(job: SlurmJob) -> str:
    """The script's text. Raises Mistake for a time limit or a name that Slurm would not take."""
    _check(job)
    options = {
        "job-name": job.job_name,
        "nodes": job.nodes,
        "ntasks-per-node": job.gpus_per_node,
        "gpus-per-node": job.gpus_per_node,
        "time": job.time_limit,
        "partition": job.partition,
        "account": job.account,
        "signal": f"TERM@{SECONDS_TO_SAVE}",
        "output": f"{job.job_name}-%j.log",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    command = shlex.join([sys.executable, "-m", "issl_engine", *job.arguments])
    setup = f"\n# --setup\n{job.setup.strip()}\n" if job.setup.strip() else ""
    return f"""\
#!/bin/bash
# Written by: issl-engine slurm. Submit it with sbatch; it goes on by itself until the run is finished.
{chr(10).join(lines)}
#SBATCH --requeue
#SBATCH --open-mode=append

cd {shlex.quote(str(Path.cwd()))} || exit 1
{setup}
# Where the ranks meet: the first node, and a port that another job on it will hardly choose.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

# The signal goes to the ranks, which save and stop. No rank is ended because another was first: rank 0 may still write.
srun --kill-on-bad-exit=0 --wait=0 {command}
code=$?

if [ "$code" -eq {INTERRUPTED_EXIT_CODE} ]; then
    echo "the run was asked to stop and has saved: queued again"
    scontrol requeue "$SLURM_JOB_ID"
    exit
fi
exit "$code"
"""


def _check(job: SlurmJob) -> None:
    match = TIME_LIMIT.fullmatch(job.time_limit)
    if match is None:
        raise Mistake(f"--time is '{job.time_limit}'; write it as HH:MM:SS, such as 24:00:00")
    hours, minutes, seconds = map(int, match.groups())
    if hours * 3600 + minutes * 60 + seconds < SHORTEST_SECONDS:
        raise Mistake(
            f"--time is {job.time_limit}, and the last {SECONDS_TO_SAVE} s are kept for saving; give at least "
            f"00:{SHORTEST_SECONDS // 60:02d}:00"
        )
    for option, value in (("--job-name", job.job_name), ("--partition", job.partition), ("--account", job.account)):
        if value is not None and WORD.fullmatch(value) is None:
            raise Mistake(f"{option} is '{value}'; Slurm takes letters, digits and _ . , : @ / + - there")
