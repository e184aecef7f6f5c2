"""SIGTERM ends a run in time wherever it is, with exit code 75 and one sentence; a second one does no harm."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from issl_engine.training.checkpoints.verify import latest_checkpoint, verify_checkpoint

from .sigterm_runs import try_all

SAID = {
    "loader": (r"stopped by SIGTERM outside training; what was saved before is kept", None),
    "first step": (r"stopped by SIGTERM at step 1 of 10; saved in \S+step_00000001", 1),
    "checkpoint": (r"stopped by SIGTERM at step \d+ of 10; saved in \S+", 4),
    "probing": (r"stopped by SIGTERM outside training; what was saved before is kept", 10),
    "report": (r"stopped by SIGTERM outside training; what was saved before is kept", 10),
    "stuck": (r"stopped by SIGTERM; it could not save within 1 s, so steps after the last checkpoint will be", None),
}
"""Spot → the sentence, and the least step that is saved then."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sigterm")


@pytest.fixture(scope="module")
def ends(folder: Path, run_alone: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    ends: dict[str, dict[str, Any]] = run_alone(try_all, folder, list(SAID), limit_seconds=300)
    return ends


@pytest.mark.parametrize("spot", list(SAID))
def test_sigterm_ends_a_run_in_time(spot: str, ends: dict[str, dict[str, Any]], folder: Path) -> None:
    end, (sentence, least_step) = ends[spot], SAID[spot]
    assert end["code"] == 75, end["said"]
    assert end["seconds"] < 10
    assert len(re.findall(sentence, end["said"])) == 1, end["said"]
    assert "Traceback" not in end["said"]
    found = latest_checkpoint(folder / spot.replace(" ", "_") / "simclr/seed0/checkpoints")
    assert (found is not None and verify_checkpoint(found).step >= least_step) if least_step else found is None
