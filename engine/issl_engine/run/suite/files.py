"""Where a suite's results lie: probes.json and probes.csv, written anew after each part."""

import re
from collections.abc import Callable
from pathlib import Path

from issl_engine.environment import collect_environment
from issl_engine.layout import CHECKPOINTS, PROBES
from issl_engine.probing.judging.results import results_to_json
from issl_engine.recipe.suite import Suite
from issl_engine.run.kept import write_json
from issl_engine.run.suite.csv_file import write_suite_csv
from issl_engine.run.suite.run import SuiteOutcome


def suite_folder(reference: str, suite: Suite) -> Path:
    """suite_<name> in the arm's folder, with the step behind it for a single checkpoint; for what is no folder of a
    run, below runs/."""
    place = Path(reference)
    if (place / CHECKPOINTS).is_dir():
        return place / f"suite_{suite.name}"
    if place.resolve().parent.name == CHECKPOINTS:
        return place.resolve().parents[1] / f"suite_{suite.name}_{place.resolve().name}"
    return Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "_", reference).strip("._") / f"suite_{suite.name}"


def write_outcome(
    folder: Path | None, *, encoder: str, suite: str, command: str
) -> Callable[[SuiteOutcome], None]:  # fmt: skip
    """Writes what there is into ``folder``, which is made; nothing where it is None."""
    if folder is None:
        return lambda outcome: None
    folder.mkdir(parents=True, exist_ok=True)
    environment = collect_environment() | {"command": command}

    def write(outcome: SuiteOutcome) -> None:
        write_json(folder / PROBES, results_to_json(outcome.results))
        write_suite_csv(folder / "probes.csv", outcome.results, encoder=encoder, suite=suite, environment=environment)

    return write
