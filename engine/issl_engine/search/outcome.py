"""What came of a trial, and its file in the trial's folder: a finished or failed trial is not run again."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import issl_engine
from issl_engine.environment import device_summary
from issl_engine.layout import TRIAL
from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe
from issl_engine.report.columns import Column
from issl_engine.report.run_folder import load_run
from issl_engine.report.statistics import Summary
from issl_engine.run.kept import first_difference, write_json
from issl_engine.run.resume import fixed_keys

_log = logging.getLogger("issl_engine")

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``values``: seed → the first probe's number on held-out images. A failed trial has a ``reason`` and no score."""

    reason: str | None = None
    probe: str = ""
    setting: str = ""
    metric: str = ""
    network: str = ""
    protocol: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    half_width: float | None = None
    """Half of the 95 % t-interval over seeds; None for one seed."""
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval over the judged images, for one seed."""
    num_images: int | None = None
    """Held-out images that judge one seed."""
    minutes: float = 0.0
    """Of pretraining, all seeds together."""
    device: str = ""
    commit: str | None = None
    date: str | None = None

    @property
    def column(self) -> Column:
        return Column(
            probe=self.probe, setting=self.setting, metric=self.metric, network=self.network, protocol=self.protocol
        )  # fmt: skip

    @property
    def score(self) -> Summary | None:
        """Mean over seeds with its interval; None for a failed trial."""
        if self.mean is None:
            return None
        return Summary(mean=self.mean, half_width=self.half_width, count=len(self.values), interval=self.interval)

    def key(self) -> float:
        """Larger is better; a failed trial is below all others."""
        if self.mean is None:
            return float("-inf")
        return -self.mean if self.column.lower_is_better else self.mean


def read_outcome(folder: Path, recipe: Recipe) -> Outcome | None:
    """The outcome in a trial's folder if it is of this very recipe; None where the trial is still to be run."""
    path = folder / TRIAL
    try:
        content = json.loads(path.read_bytes())
        made_of, outcome = content["made_of"], content["outcome"]
        if content["format"] != FORMAT:
            raise ValueError("another format")
        interval = outcome.pop("interval")
        found = Outcome(**outcome, interval=None if interval is None else tuple(interval))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        _log.warning("%s: the file is damaged or of another version, so the trial is looked at anew", path)
        return None
    difference = first_difference(made_of, json.loads(json.dumps(depends_on(recipe))))
    if difference is not None:
        _log.info("%s: %s, so the trial is looked at anew", path, difference)
        return None
    return found


def write_outcome(folder: Path, recipe: Recipe, outcome: Outcome) -> None:
    """Raises OSError."""
    write_json(folder / TRIAL, {"format": FORMAT, "made_of": depends_on(recipe), "outcome": asdict(outcome)})


def depends_on(recipe: Recipe) -> dict[str, Any]:
    """All of a trial's recipe that its outcome depends on."""
    whole = recipe.model_dump(mode="json")
    whole["evaluation"].pop("batch_size")
    measured = {key: whole[key] for key in ("seeds", "evaluation", "probes")}
    return fixed_keys(whole) | measured | {"issl_engine": issl_engine.__version__}


def outcome_of_run(folder: Path) -> Outcome:
    """Of a trial's run folder, whose run is finished. Raises Mistake where its probe gave no number."""
    run = load_run(folder)
    (arm,) = run.arms
    if not run.columns:
        raise Mistake(
            f"{folder}: the recipe's first probe gives no number here, and a search goes by it; put another first"
        )
    column = run.columns[0]
    results = arm.results(column)
    score = arm.score(column)
    assert score is not None, folder
    seconds = [seed.last("seconds") or 0.0 for seed in arm.seeds]
    return Outcome(
        probe=column.probe,
        setting=column.setting,
        metric=column.metric,
        network=column.network,
        protocol=column.protocol,
        values={str(seed.seed): result.value for seed, result in zip(arm.seeds, results, strict=True)},
        mean=score.mean,
        half_width=score.half_width,
        interval=score.interval,
        num_images=results[0].num_split_images,
        minutes=sum(seconds) / 60,
        **_made(folder),
    )


def failed_outcome(folder: Path, reason: str, minutes: float) -> Outcome:
    """Of a trial that stopped for good."""
    return Outcome(reason=reason, minutes=minutes, **_made(folder))


def _made(folder: Path) -> dict[str, Any]:
    environment = load_run(folder).environment
    return {"device": device_summary(environment), "commit": environment.get("commit"), "date": environment.get("date")}
