"""A run folder, read: what pretraining and probing wrote, whether or not it is finished."""

import logging
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from issl_engine.layout import (
    ANSWERS,
    CONTROLS,
    DIAGNOSTICS,
    ENVIRONMENT,
    FEATURE_MAP,
    METRICS,
    PROBES,
    RAW_PIXELS,
    RECIPE,
    RECORD,
    RESOLVED,
    UNTRAINED,
    VIEWS,
    arm_folder,
    is_control_folder,
)  # fmt: skip
from issl_engine.probing.judging.results import results_from_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.answers_file import Answers, read_answers
from issl_engine.report.columns import Column, column_of
from issl_engine.report.diagnostics_file import Diagnostics, read_diagnostics
from issl_engine.report.over_training import ProbedCheckpoint, read_over_training
from issl_engine.report.read_json import ReportError, read_json, read_lines
from issl_engine.report.statistics import Summary, summarise

_log = logging.getLogger("issl_engine")

CONTROL_TITLES = {UNTRAINED: "untrained encoder", RAW_PIXELS: "raw pixels"}
"""Kind of control → how tables call it."""
RECORD_KEYS = {"recipe", "description", "status", "arms", "seeds"}
"""What run.json must say."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """An untrained encoder or the raw pixels, probed with one seed."""

    name: str
    """Its folder's name: arms that share a control share the name, over all seeds."""
    probes: list[ProbeResult]
    dim: int | None = None
    """Width of the untrained encoder's representation."""
    feature_map: Path | None = None
    diagnostics: Diagnostics | None = None
    answers: Answers | None = None


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """One arm at one seed. ``metrics`` are the lines of metrics.jsonl."""

    seed: int
    metrics: list[dict[str, float]]
    probes: list[ProbeResult]
    views_png: Path | None = None
    feature_map: Path | None = None
    diagnostics: Diagnostics | None = None
    answers: Answers | None = None
    """Which judged images were told right; None where an earlier version kept none."""
    over_training: list[ProbedCheckpoint] = field(default_factory=list)
    """Checkpoints of the way that were probed, in their order."""
    config: dict[str, Any] | None = None
    """The recipe of resolved.yaml, as YAML reads it."""
    controls: dict[str, Control] = field(default_factory=dict)
    """Kind → the control that this arm is compared with at this seed."""

    @property
    def untrained(self) -> Control | None:
        """Its own encoder, untrained."""
        return self.controls.get(UNTRAINED)

    def over_untrained(self, column: Column) -> float | None:
        """What this seed's probe gives more than its own untrained encoder's, in the column's unit."""
        untrained = self.untrained
        mine = next((one.value for one in self.probes if column.holds(one)), None)
        floors = untrained.probes if untrained else []
        floor = next((one.value for one in floors if column.of_control.holds(one)), None)
        return None if mine is None or floor is None else mine - floor

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
        """One result per seed that was probed so."""
        return [result for run in self.seeds for result in run.probes if column.holds(result)]

    def score(self, column: Column) -> Summary | None:
        """Over seeds; None before any is probed. A single seed brings the interval of its probe: of its draws of
        training images where there were several, else the bootstrap's."""
        results = self.results(column)
        if len(results) == 1:
            (only,) = results
            if len(only.draws) > 1:
                return summarise(only.draws, column.limits)
            return Summary(mean=only.value, half_width=None, count=1, interval=only.interval)
        return summarise([result.value for result in results], column.limits) if results else None

    @property
    def images_per_second(self) -> float | None:
        """Median of all logged intervals: one slow interval does not count."""
        speeds = [
            speed
            for run in self.seeds
            for record in run.metrics
            if (speed := record.get("images_per_second")) is not None
        ]
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
                "over_training": [
                    {"epoch": one.epoch, "probes": {column_of(result).key: result.value for result in one.results}}
                    for one in run.over_training
                ],
                "over_untrained": {
                    column.key: gain
                    for column in map(column_of, run.probes)
                    if (gain := run.over_untrained(column)) is not None
                },
            }
            for run in row.seeds
        ],
    }


def load_run(folder: Path) -> Run:
    """Raises ReportError when the folder holds no run or one of its files is damaged."""
    if not (folder / RECORD).is_file():
        raise ReportError(f"{folder}: this is no run folder (it has no run.json); name one that 'issl-engine run' made")
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or RECORD_KEYS - record.keys():
        raise ReportError(f"{folder / 'run.json'}: this is no record of a run; run the recipe again to write it anew")
    arms = [
        ArmRuns(
            name=arm, objective=objective, seeds=_seeds(folder, arm, record["seeds"]), folder=folder, run=folder.name
        )
        for arm, objective in record["arms"].items()
    ]
    arms = [arm for arm in arms if arm.seeds]
    recipe, environment = folder / RECIPE, folder / ENVIRONMENT
    return Run(
        folder=folder,
        recipe=record["recipe"],
        description=record["description"],
        status=record["status"],
        arms=arms,
        controls=_control_rows(arms, folder),
        environment=_environment(environment),
        recipe_text=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else "",
    )


def _seeds(run: Path, arm: str, seeds: list[int]) -> list[SeedRun]:
    found = []
    for seed in seeds:
        place = arm_folder(run, arm, seed)
        if not place.is_dir():
            continue
        found.append(
            SeedRun(
                seed=seed,
                metrics=read_lines(place / METRICS),
                probes=_probes(place / PROBES),
                views_png=_if_there(place / VIEWS),
                feature_map=_if_there(place / FEATURE_MAP),
                diagnostics=read_diagnostics(place / DIAGNOSTICS),
                answers=read_answers(place / ANSWERS),
                over_training=read_over_training(place),
                config=_config(place / RESOLVED),
                controls=_controls(run, place / CONTROLS),
            )
        )
    return found


def _controls(run: Path, named: Path) -> dict[str, Control]:
    """What an arm's controls.json names; nothing before its controls are made."""
    if not named.is_file():
        _say_where_controls_are_older(run)
        return {}
    content = read_json(named)
    wrong = _wrong_in_controls(content)
    if wrong is not None:
        raise ReportError(f"{named}: the file is damaged ({wrong}); run the recipe again to write it anew")
    found = {}
    for kind, entry in content.items():
        place = run / entry["folder"]
        diagnostics = entry.get("diagnostics")
        found[kind] = Control(
            name=place.name,
            probes=_probes(place / PROBES),
            dim=entry.get("dim"),
            feature_map=_if_there(place / FEATURE_MAP),
            answers=read_answers(place / ANSWERS),
            diagnostics=None if diagnostics is None else read_diagnostics(place / Path(diagnostics).name),
        )
    return found


def _wrong_in_controls(content: Any) -> str | None:
    if not isinstance(content, dict):
        return "it is no mapping"
    for kind, entry in content.items():
        if kind not in CONTROL_TITLES or not isinstance(entry, dict):
            return f"{kind!r} is no control"
        folder = entry.get("folder")
        if not isinstance(folder, str) or not is_control_folder(folder):
            return f"{folder!r} is no control's folder"
        if not isinstance(entry.get("diagnostics"), str | None) or not isinstance(entry.get("dim"), int | None):
            return f"the dim or the diagnostics of {kind!r} are of another type"
    return None


@cache
def _say_where_controls_are_older(run: Path) -> None:
    """Once per run, however many arms look for theirs."""
    if any(run.glob("controls/seed*/untrained.json")):
        _log.info("%s: its controls were kept by an older version; run the recipe again to see them", run)


def _control_rows(arms: list[ArmRuns], folder: Path) -> list[ArmRuns]:
    """A row for each control that some arm is compared with: untrained encoders, then raw pixels."""
    rows = []
    for kind, title in CONTROL_TITLES.items():
        users: dict[str, list[ArmRuns]] = {}
        for arm in arms:
            for name in dict.fromkeys(seed.controls[kind].name for seed in arm.seeds if kind in seed.controls):
                users.setdefault(name, []).append(arm)
        labels = _labels(kind, users)
        for name, several in users.items():
            seeds = {
                seed.seed: seed.controls[kind]
                for arm in reversed(several)  # the first arm's diagnostics are shown: they depend on its views
                for seed in arm.seeds
                if kind in seed.controls and seed.controls[kind].name == name
            }
            shown = f"{title} ({labels[name]})" if len(users) > 1 else title
            runs = [_as_run(number, seeds[number]) for number in sorted(seeds)]
            rows.append(ArmRuns(name=shown, objective=None, seeds=runs, folder=folder, run=folder.name))
    return rows


def _labels(kind: str, users: dict[str, list[ArmRuns]]) -> dict[str, str]:
    """What tells the controls of one kind apart: their widths, or else the arms that are compared with them."""
    dims = {
        name: next(str(c.dim) for arm in arms for s in arm.seeds if (c := s.controls.get(kind)) and c.name == name)
        for name, arms in users.items()
    }
    if len(set(dims.values())) == len(dims):
        return dims
    return {name: ", ".join(arm.name for arm in arms) for name, arms in users.items()}


def _as_run(seed: int, control: Control) -> SeedRun:
    return SeedRun(
        seed=seed,
        metrics=[],
        probes=control.probes,
        feature_map=control.feature_map,
        diagnostics=control.diagnostics,
        answers=control.answers,
    )


def _environment(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise ReportError(
            f"{path}: this does not say what the run was made with; run the recipe again to write it anew"
        )
    return content


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
        raise ReportError(
            f"{path}: damaged, or of another version of issl-engine ({error}); run the recipe again to write it anew"
        ) from error
