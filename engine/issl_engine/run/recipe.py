"""A whole recipe: every arm and seed pretrained and measured, each with its controls, then the report.

``layout.py`` says what lies where in the folder.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from issl_engine.environment import collect_environment
from issl_engine.launch.folder_lock import Resume, locked_folder
from issl_engine.launch.preflight import check_before_training
from issl_engine.layout import ENVIRONMENT, LOG, RECIPE, RECORD, arm_folder
from issl_engine.log_file import LogFile
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.report.write import write_report
from issl_engine.run.arm import run_arm
from issl_engine.run.controls import run_controls
from issl_engine.run.dataset import load_dataset
from issl_engine.run.kept import write_json
from issl_engine.run.resume import check_folder
from issl_engine.run.together import measure_together
from issl_engine.training.lines import OnLog
from issl_engine.training.watch.watchdog import OnHung
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

OnArm = Callable[[str, int], OnLog | None]
"""Called when an arm (its name, the seed) starts; gives the callback for its logged records."""


def run_recipe(
    file: RecipeFile,
    out: Path,
    *,
    ranks: Ranks,
    resume: Resume = "auto",
    on_arm: OnArm | None = None,
    on_hung: OnHung | None = None,
    command: str = "",
) -> Path:
    """Runs (or goes on with) a recipe in ``out``; returns that folder. ``on_hung`` hears why a run that has stopped
    moving ends its process. Raises Mistake."""
    with locked_folder(out, ranks, resume), _log_file(out, ranks):
        check_folder(out, file.arms)
        check_before_training(file.arms, out, ranks, load_dataset)
        record = _start_record(file)
        if ranks.is_first:
            write_whole(out / RECIPE, file.text)
            write_json(out / ENVIRONMENT, collect_environment() | {"command": command})
            write_json(out / RECORD, record)
        try:
            for seed in _first(file.arms).seeds:
                for arm, recipe in file.arms.items():
                    on_log = on_arm(arm, seed) if on_arm else None
                    run_arm(recipe, arm_folder(out, arm, seed), seed, ranks, on_log, on_hung)
                for arm, recipe in file.arms.items():
                    if recipe.controls:
                        make = partial(run_controls, recipe, out, arm_folder(out, arm, seed), seed, ranks)
                        measure_together(recipe, seed, ranks, make)
        except BaseException:
            if ranks.is_first:
                _note_interruption(out, record)
            raise
        if ranks.is_first:
            write_json(out / RECORD, record | {"status": "finished", "finished": _now()})
            write_report(out)
        return out


def _first(recipes: dict[str, Recipe]) -> Recipe:
    """Name, description and seeds are the whole file's, so any arm's."""
    return next(iter(recipes.values()))


def _start_record(file: RecipeFile) -> dict[str, Any]:
    first = _first(file.arms)
    return {
        "recipe": first.name,
        "description": first.description,
        "arms": {arm: recipe.objective.name for arm, recipe in file.arms.items()},
        "seeds": list(first.seeds),
        "overrides": list(file.overrides),
        "status": "running",
        "started": _now(),
        "finished": None,
    }


@contextmanager
def _log_file(out: Path, ranks: Ranks) -> Iterator[None]:
    """What the first rank logs also goes to RUN/log.txt."""
    if not ranks.is_first:
        yield
        return
    handler = LogFile(out / LOG)
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()


def _note_interruption(out: Path, record: dict[str, Any]) -> None:
    """In run.json, if it can be written: what ended the run is more to the point than a full disk here."""
    try:
        write_json(out / RECORD, record | {"status": "interrupted", "finished": _now()})
    except OSError as error:
        _log.warning("%s: that the run was interrupted could not be noted (%s)", error.filename, error.strerror)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
