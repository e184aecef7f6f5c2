"""A run folder, read: what pretraining and probing wrote, whether or not it is finished."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from issl_engine.probing.base import ProbeResult
from issl_engine.probing.results import results_from_json
from issl_engine.report.statistics import Summary, summarise

_log = logging.getLogger("issl_engine")

CONTROLS = {"untrained": "untrained encoder", "raw_pixels": "raw pixels"}
"""File name → how tables call it."""


class ReportError(ValueError):
    """A folder that is no run, or a damaged file in it: one sentence."""


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """One arm at one seed. ``metrics`` are the lines of metrics.jsonl."""

    seed: int
    metrics: list[dict[str, float]]
    probes: list[ProbeResult]
    views_png: Path | None = None

    def last(self, key: str) -> float | None:
        return self.metrics[-1].get(key) if self.metrics else None


@dataclass(frozen=True, kw_only=True)
class ArmRuns:
    """All seeds of an arm, or of a control (``objective`` is then None)."""

    name: str
    objective: str | None
    seeds: list[SeedRun]

    def probe(self, probe: str) -> Summary | None:
        """Over seeds; None before any is probed."""
        values = [result.value for run in self.seeds for result in run.probes if result.probe == probe]
        return summarise(values) if values else None

    @property
    def images_per_second(self) -> float | None:
        """Median of all logged intervals: one slow interval does not count."""
        speeds = [record["images_per_second"] for run in self.seeds for record in run.metrics]
        return median(speeds) if speeds else None

    def metric(self, key: str) -> Summary | None:
        """Of the last logged line, over seeds."""
        values = [value for run in self.seeds if (value := run.last(key)) is not None]
        return summarise(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder."""

    folder: Path
    recipe: str
    description: str
    status: str
    arms: list[ArmRuns]
    controls: list[ArmRuns]
    environment: dict[str, Any]
    recipe_text: str

    @property
    def rows(self) -> list[ArmRuns]:
        """Arms, then controls: the rows of tables."""
        return [*self.arms, *self.controls]

    @property
    def probe_names(self) -> list[str]:
        """In the order in which they were run."""
        return list(dict.fromkeys(result.probe for row in self.rows for run in row.seeds for result in run.probes))

    @property
    def results(self) -> list[ProbeResult]:
        return [result for row in self.rows for run in row.seeds for result in run.probes]

    def as_json(self) -> dict[str, Any]:
        """What a program would read of it."""
        return {
            "recipe": self.recipe,
            "status": self.status,
            "folder": str(self.folder),
            "arms": [_row_json(row) for row in self.arms],
            "controls": [_row_json(row) for row in self.controls],
        }


def _row_json(row: ArmRuns) -> dict[str, Any]:
    return {
        "name": row.name,
        "objective": row.objective,
        "seeds": [
            {
                "seed": run.seed,
                "final_loss": run.last("loss"),
                "seconds": run.last("seconds"),
                "probes": {result.probe: result.value for result in run.probes},
            }
            for run in row.seeds
        ],
    }


def load_run(folder: Path) -> Run:
    """Raises ReportError when the folder holds no run or one of its files is damaged."""
    if not (folder / "run.json").is_file():
        raise ReportError(f"{folder}: this is no run folder (it has no run.json); name one that 'issl-engine run' made")
    record = _json(folder / "run.json")
    arms = [
        ArmRuns(name=arm, objective=objective, seeds=_seeds(folder / arm, record["seeds"]))
        for arm, objective in record["arms"].items()
    ]
    controls = [
        ArmRuns(name=title, objective=None, seeds=_control(folder, name, record["seeds"]))
        for name, title in CONTROLS.items()
    ]
    recipe = folder / "recipe.yaml"
    environment = folder / "environment.json"
    return Run(
        folder=folder,
        recipe=record["recipe"],
        description=record["description"],
        status=record["status"],
        arms=[arm for arm in arms if arm.seeds],
        controls=[control for control in controls if control.seeds],
        environment=_json(environment) if environment.is_file() else {},
        recipe_text=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _seeds(folder: Path, seeds: list[int]) -> list[SeedRun]:
    runs = []
    for seed in seeds:
        place = folder / f"seed{seed}"
        if not place.is_dir():
            continue
        views = place / "views.png"
        runs.append(
            SeedRun(
                seed=seed,
                metrics=_lines(place / "metrics.jsonl"),
                probes=_probes(place / "probes.json"),
                views_png=views if views.is_file() else None,
            )
        )
    return runs


def _control(folder: Path, name: str, seeds: list[int]) -> list[SeedRun]:
    paths = {seed: folder / "controls" / f"seed{seed}" / f"{name}.json" for seed in seeds}
    return [SeedRun(seed=seed, metrics=[], probes=_probes(path)) for seed, path in paths.items() if path.is_file()]


def _probes(path: Path) -> list[ProbeResult]:
    if not path.is_file():
        return []
    try:
        return results_from_json(_json(path))
    except TypeError as error:
        raise ReportError(f"{path}: written by another version of issl-engine ({error})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: the file is damaged ({error}); run the recipe again to write it anew") from error


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                _log.info("%s: its last line is half written and is left out", path)
                break
            raise ReportError(f"{path}:{number}: the line is damaged ({error})") from error
    return records
