"""issl-engine bench diagnostics: the pairs' ratios, the share of training, and the line that is kept."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.ranks import start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.run.dataset import load_dataset
from issl_profiling.results_file import MADE_BY
from issl_profiling.train import diagnostics_cost
from issl_profiling.train.case import TrainCase
from issl_profiling.train.diagnostics_cost import COLUMNS, DIAGNOSTICS_FILE, DiagnosticsCost, measure_cost

SMALL = ["source.num_train=48", "source.num_test=12", "training.global_batch_size=8"]


def case_of(*overrides: str) -> TrainCase:
    recipe = load_recipe("smoke", [*SMALL, *overrides], ["simclr"]).arms["simclr"]
    return TrainCase.of("simclr", recipe, load_dataset(recipe), start_ranks())


def test_the_share_is_what_a_measurement_adds_over_the_steps_that_share_it(tmp_path: Path) -> None:
    cost = DiagnosticsCost(
        case=case_of(), dim=32, num_images=8, interval_steps=50, step_ms=100.0, measurement_ms=11.0,
        ratios=(1.3, 1.1, 0.9, 1.2, 1.0),
    )  # fmt: skip
    assert cost.ratio.median == 1.1
    assert cost.share == pytest.approx(0.002)
    (line,) = DIAGNOSTICS_FILE.add(tmp_path / "cost.csv", [cost.record()], dict.fromkeys(MADE_BY, ""))
    assert tuple(line) == COLUMNS
    assert (line["share_of_training"], line["pairs"], line["batch_size"]) == (0.002, 5, 8)


def test_measured_and_plain_steps_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    timed, order = diagnostics_cost._timed, []

    def noted(work, diagnostics):
        order.append(diagnostics is not None)
        return timed(work, diagnostics)

    monkeypatch.setattr(diagnostics_cost, "_timed", noted)
    cost = measure_cost(case_of("diagnostics.every_steps=1", "training.log_every_steps=4"), pairs=3)
    assert order == [True] * 3 + [True, False, False, True, True, False]
    assert (cost.interval_steps, cost.num_images, cost.dim) == (4, 8, 32)
    assert cost.measurement_ms > 0
    assert all(ratio > 0 for ratio in cost.ratios)


def test_there_must_be_something_to_time() -> None:
    with pytest.raises(ValueError, match="every_steps is null"):
        measure_cost(case_of("diagnostics.every_steps=null"), pairs=2)


def test_the_command_keeps_a_line_an_arm(tmp_path: Path) -> None:
    results = tmp_path / "cost.csv"
    done = CliRunner().invoke(
        main, ["bench", "diagnostics", "smoke", *SMALL, "--pairs", "2", "--out", str(results), "--json"]
    )
    assert done.exit_code == 0, done.output
    with results.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["arm"] for line in lines] == ["simclr", "dissl"]
    assert [line["arm"] for line in json.loads(done.stdout)] == ["simclr", "dissl"]
    assert all(line["command"].startswith("issl-engine") and line["device"] for line in lines)
