"""evaluation.network from a recipe to its tables: the student, the EMA teacher, or both."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.report.run_folder import load_run
from issl_engine.weights.open_encoder import open_encoder

RECIPE = """\
name: small
source: {name: shapes, num_train: 60, num_test: 20, num_classes: 4, image_size: 16}
views: {groups: [{count: 2, size: 16}]}
encoder: {name: small_resnet, width: 4, dim: 8}
objective: {name: OBJECTIVE}
optimizer: {name: adamw, lr: 1e-2}
training: {epochs: 2, global_batch_size: 10, threads: 1}
evaluation: {resize: 16, crop: 16, network: NETWORK}
probes: [{name: nearest_mean}]
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def recipe(folder: Path, *, objective: str = "byol", network: str = "both") -> Path:
    path = folder / "small.yaml"
    path.write_text(RECIPE.replace("OBJECTIVE", objective).replace("NETWORK", network))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    done = call("run", recipe(folder), "--out", folder / "run")
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.fixture
def arm(run: Path) -> Path:
    return run / "byol" / "seed0"


def values(records: list[dict]) -> dict[str, float]:
    return {record["network"]: record["value"] for record in records}


def test_results_tables_and_ledger_say_which_network(run: Path, arm: Path) -> None:
    records = json.loads((arm / "probes.json").read_text())
    assert [record["network"] for record in records] == ["", "teacher"]
    made_of = json.loads((arm / "kept.json").read_text())["results"]["probes.json"]["made_of"]
    assert set(made_of["encoder"]) == {"student", "teacher"}
    lines = list(csv.DictReader((run / "results.csv").open()))
    found = {(line["arm"], line["network"]): line for line in lines}
    assert found["byol", "teacher"]["over_untrained"]
    assert ("untrained encoder", "teacher") not in found
    titles = [column.title for column in load_run(run).plain_columns]
    assert titles == ["nearest class mean top-1 %", "nearest class mean, teacher, top-1 %"]


def test_a_second_run_measures_nothing_anew_and_another_network_does(run: Path, arm: Path, tmp_path: Path) -> None:
    before = (arm / "probes.json").stat().st_mtime_ns
    assert call("run", recipe(tmp_path), "--out", run).exit_code == 0
    assert (arm / "probes.json").stat().st_mtime_ns == before
    both = json.loads((arm / "probes.json").read_text())
    done = call("run", recipe(tmp_path, network="teacher"), "--out", run)
    assert done.exit_code == 0, done.output
    (alone,) = json.loads((arm / "probes.json").read_text())
    assert alone == both[1]
    made_of = json.loads((arm / "kept.json").read_text())["results"]
    assert set(made_of["probes.json"]["made_of"]["encoder"]) == {"teacher"}
    assert made_of["diagnostics.json"]["made_of"]["network"] == "teacher"
    assert call("run", recipe(tmp_path), "--out", run).exit_code == 0
    assert json.loads((arm / "probes.json").read_text()) == both


def test_probe_names_the_network_and_repeats_the_runs_numbers(run: Path, arm: Path) -> None:
    expected = values(json.loads((arm / "probes.json").read_text()))
    for network, wanted in (("student", {""}), ("teacher", {"teacher"}), ("both", {"", "teacher"})):
        done = call("probe", arm, "--network", network, "--json")
        assert done.exit_code == 0, done.output
        assert values(json.loads(done.stdout)) == {name: expected[name] for name in wanted}
    assert "network" in call("probe", arm).stdout


def test_a_suite_of_both_has_every_part_twice(arm: Path, tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text("{name: mine, probes: [{name: nearest_mean}], corruptions: {kinds: [jpeg], strengths: [3]}}")
    done = call("probe", arm, "--suite", suite, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    records = json.loads(done.stdout)
    for setting in {record["setting"] for record in records}:
        assert {record["network"] for record in records if record["setting"] == setting} == {"", "teacher"}
    again = call("probe", arm, "--suite", suite, "--out", tmp_path / "out")
    assert again.stderr.count("done before") == len(list((tmp_path / "out" / "parts").iterdir()))


def test_the_teacher_leaves_and_is_known_again(arm: Path, tmp_path: Path) -> None:
    done = call("export", arm, "--network", "teacher", "--format", "safetensors", "--out", tmp_path / "teacher")
    assert done.exit_code == 0, done.output
    opened = open_encoder(str(tmp_path / "teacher"))
    assert (opened.network, opened.digest) == ("teacher", open_encoder(str(arm), "teacher").digest)
    assert opened.digest != open_encoder(str(arm)).digest
    card = (tmp_path / "teacher" / "README.md").read_text()
    assert "| network | teacher |" in card
    assert card.count("| nearest_mean |") == 1
    refused = call("export", tmp_path / "teacher", "--network", "student", "--format", "timm", "--out", tmp_path / "x")
    assert "this is one network, exported as the teacher" in refused.stderr
    assert values(json.loads(call("probe", tmp_path / "teacher", "evaluation.network=student", "--json").stdout))


def test_diagnose_takes_either(arm: Path) -> None:
    found = {}
    for network in ("student", "teacher"):
        done = call("diagnose", arm, "--network", network, "--json")
        assert done.exit_code == 0, done.output
        found[network] = json.loads(done.stdout)
    assert found["student"] != found["teacher"]


def test_an_objective_without_a_teacher_is_refused(tmp_path: Path) -> None:
    for network in ("teacher", "both"):
        done = call("validate", recipe(tmp_path, objective="simclr", network=network))
        assert done.exit_code == 1
        assert "evaluation.network asks for the EMA teacher, and objective.name simclr has none" in done.stderr
        assert "Traceback" not in done.output
