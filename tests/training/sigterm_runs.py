"""Runs a recipe once per spot, with SIGTERM sent twice when it comes there: what test_sigterm.py runs alone in a
process, which forks each run."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

import issl_engine.commands.run  # noqa: F401 (so that the forked runs need not import it)
import issl_engine.loading.training as loading
import issl_engine.run.arm as arm
import issl_engine.run.recipe as run
import issl_engine.training.checkpoints.writer as writing
from issl_engine.cli import main
from issl_engine.training.learner import Learner
from issl_engine.training.watch import interruption

from ..rank_harness import fork

ARGUMENTS = (
    "run", "smoke", "--arm", "simclr", "source.num_train=40", "source.num_test=16", "training.global_batch_size=8",
    "training.epochs=2", "training.log_every_steps=1", "checkpoint.every_epochs=0.6", "training.threads=1",
    "probes=[{name: knn, ks: [3]}]", "controls=false",
)  # fmt: skip

SPOTS: dict[str, tuple[Any, str, float]] = {
    "loader": (loading, "build_pipeline", 5.0),
    "first step": (Learner, "forward", 0.2),
    "checkpoint": (writing, "publish", 0.5),
    "probing": (arm, "probe_encoder", 5.0),
    "report": (run, "write_report", 5.0),
    "stuck": (Learner, "forward", 0.0),
}
"""Spot → the function that is patched, and for how many seconds it waits there; "stuck" waits where no handler runs."""


def run_spot(folder: Path, spot: str, came: Callable[[], None]) -> None:
    """In a process of its own; ends it."""
    owner, name, seconds = SPOTS[spot]
    work = getattr(owner, name)
    is_first = True

    def reported(*args: Any, **named: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            if spot == "stuck":
                interruption.SIGTERM_SECONDS = 1.0  # before the signal, which may come at once
            came()
            if spot == "stuck":
                dist.HashStore().wait(["never"])
            time.sleep(seconds)
        return work(*args, **named)

    setattr(owner, name, reported)
    sys.argv = ["issl-engine", *ARGUMENTS, "--out", str(folder)]
    main(sys.argv[1:])


def try_spot(folder: Path, spot: str) -> dict[str, Any]:
    """Exit code, seconds from the signal to the end, and what was said."""
    log = folder / f"{spot}.log"
    read, write = os.pipe()

    def run() -> None:
        os.close(read)
        run_spot(folder / spot.replace(" ", "_"), spot, lambda: os.close(write))

    child = fork(log, run)
    os.close(write)
    os.read(read, 1)  # returns when the child closes its end: it is there, or has ended
    began = time.monotonic()
    os.kill(child, signal.SIGTERM)
    time.sleep(0.05)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - began
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "said": log.read_text()}


def try_all(folder: Path, spots: list[str]) -> dict[str, dict[str, Any]]:
    """Each in turn."""
    return {spot: try_spot(folder, spot) for spot in spots}
