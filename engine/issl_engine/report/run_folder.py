"""A run folder, read: what pretraining and probing wrote, whether or not it is finished."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from issl_engine.probing.judging.results import results_from_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.columns import Column, column_of
from issl_engine.report.diagnostics_file import Diagnostics, read_diagnostics
from issl_engine.report.errors import ReportError
from issl_engine.report.read_json import read_json
from issl_engine.report.statistics import Summary, summarise

_log = logging.getLogger("issl_engine")

CONTROLS = {"untrained": "untrained encoder", "raw_pixels": "raw pixels"}
"""File name → how tables call it."""


RECORD_KEYS = {"recipe", "description", "status", "arms", "seeds"}
"""What run.json must say."""


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """One arm at one seed. ``metrics`` are the lines of metrics.jsonl."""

    seed: int
    metrics: list[dict[str, float]]
    probes: list[ProbeResult]
    views_png: Path | None = None
    feature_map: Path | None = None
    diagnostics: Diagnostics | None = None
    config: dict[str, Any] | None = None
    """The recipe of resolved.yaml, as YAML reads it."""

    def last(self, key: str) -> float | None:
        return self.metrics[-1].get(key) if self.metrics else None


@dataclass(frozen=True, kw_only=True)
class ArmRuns:
    """All seeds of an arm, or of a control (``objective`` is then None)."""

    name: str
    objective: str | None
    seeds: list[SeedRun]
    folder: Path
    """Its run's folder."""
    run: str
    """How its run is called."""

    def results(self, column: Column) -> list[ProbeResult]:
        """One a seed that was probed so."""
        return [result for run in self.seeds for result in run.probes if column.holds(result)]

    def score(self, column: Column) -> Summary | None:
        """Over seeds; None before any is probed. A single seed brings the interval of its probe: of its draws of
        training images where there were several, else the bootstrap's."""
        results = self.results(column)
        if len(results) == 1:
            (only,) = results
            if len(only.draws) > 1:
                return summarise(only.draws)
            return Summary(mean=only.value, half_width=None, count=1, interval=only.interval)
        return summarise([result.value for result in results]) if results else None

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
    members: list["Run"] = field(default_factory=list)
    """The runs that a comparison is made of; empty for a run alone."""

    @property
    def each(self) -> list["Run"]:
        """The runs whose recipe and environment are to be shown."""
        return self.members or [self]

    @property
    def rows(self) -> list[ArmRuns]:
        """Arms, then controls: the rows of tables."""
        return [*self.arms, *self.controls]

    @property
    def columns(self) -> list[Column]:
        """In the order in which they were probed."""
        return list(dict.fromkeys(column_of(result) for result in self.results))

    @property
    def plain_columns(self) -> list[Column]:
        """Those of probes as they are, without a setting of their own; all where there is none such."""
        return [column for column in self.columns if not column.setting] or self.columns

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
                "probes": {column_of(result).key: result.value for result in run.probes},
            }
            for run in row.seeds
        ],
    }


def load_run(folder: Path) -> Run:
    """Raises ReportError when the folder holds no run or one of its files is damaged."""
    if not (folder / "run.json").is_file():
        raise ReportError(f"{folder}: this is no run folder (it has no run.json); name one that 'issl-engine run' made")
    record = read_json(folder / "run.json")
    if not isinstance(record, dict) or RECORD_KEYS - record.keys():
        raise ReportError(f"{folder / 'run.json'}: this is no record of a run; run the recipe again to write it anew")
    arms = [
        ArmRuns(
            name=arm, objective=objective, seeds=_seeds(folder / arm, record["seeds"]), folder=folder, run=folder.name
        )
        for arm, objective in record["arms"].items()
    ]
    controls = [
        ArmRuns(
            name=title, objective=None, seeds=_control(folder, name, record["seeds"]), folder=folder, run=folder.name
        )
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
        environment=read_json(environment) if environment.is_file() else {},
        recipe_text=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _seeds(folder: Path, seeds: list[int]) -> list[SeedRun]:
    runs = []
    for seed in seeds:
        place = folder / f"seed{seed}"
        if not place.is_dir():
            continue
        runs.append(
            SeedRun(
                seed=seed,
                metrics=_lines(place / "metrics.jsonl"),
                probes=_probes(place / "probes.json"),
                views_png=_if_there(place / "views.png"),
                feature_map=_if_there(place / "feature_map.npz"),
                diagnostics=read_diagnostics(place / "diagnostics.json"),
                config=_config(place / "resolved.yaml"),
            )
        )
    return runs


def _control(folder: Path, name: str, seeds: list[int]) -> list[SeedRun]:
    places = {seed: folder / "controls" / f"seed{seed}" for seed in seeds}
    return [
        SeedRun(
            seed=seed,
            metrics=[],
            probes=_probes(place / f"{name}.json"),
            feature_map=_if_there(place / f"{name}.feature_map.npz"),
            diagnostics=read_diagnostics(place / f"{name}_diagnostics.json"),
        )
        for seed, place in places.items()
        if (place / f"{name}.json").is_file()
    ]


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _config(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        _log.warning("%s: the file is damaged, so the report does not say how this arm's recipe differs", path)
        return None
    return content


def _probes(path: Path) -> list[ProbeResult]:
    if not path.is_file():
        return []
    try:
        return results_from_json(read_json(path))
    except TypeError as error:
        raise ReportError(f"{path}: written by another version of issl-engine ({error})") from error


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
