"""A recipe from end to end through the command line, on the packaged smoke recipe."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.environment import checks, collect_environment


def call(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    call("run", "smoke", "--out", folder / "run", "seeds=[0, 1]")
    return folder / "run"


def test_everything_is_in_the_run_folder(run: Path) -> None:
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    for name in ("recipe.yaml", "environment.json", "results.csv", "report.html", "log.txt"):
        assert (run / name).stat().st_size > 0, name
    for arm in ("simclr", "dissl"):
        for seed in ("seed0", "seed1"):
            place = run / arm / seed
            names = {
                "resolved.yaml",
                "metrics.jsonl",
                "probes.json",
                "diagnostics.json",
                "feature_map.npz",
                "views.png",
            }
            assert names | {"checkpoints"} <= {path.name for path in place.iterdir()}
    assert "steps_per_epoch: 8" in (run / "simclr" / "seed0" / "resolved.yaml").read_text()
    assert json.loads((run / "environment.json").read_text())["command"].startswith("issl-engine")


def test_stdout_is_the_result_alone(run: Path) -> None:
    arms = json.loads(call("report", run, "--json").stdout)["arms"]
    assert [arm["name"] for arm in arms] == ["simclr", "dissl"]
    assert [seed["seed"] for seed in arms[0]["seeds"]] == [0, 1]


def test_resolved_recipe_runs_again(run: Path) -> None:
    call("validate", run / "simclr" / "seed0" / "resolved.yaml")


def test_probe_repeats_the_runs_own_number(run: Path) -> None:
    place = run / "dissl" / "seed1"
    (again,) = json.loads(call("probe", place, "--json").stdout)
    (first,) = json.loads((place / "probes.json").read_text())
    assert again["value"] == first["value"]


def test_diagnose_repeats_the_runs_own_measures(run: Path) -> None:
    place = run / "dissl" / "seed1"
    written = json.loads((place / "diagnostics.json").read_text())
    again = json.loads(call("diagnose", place, "--json").stdout)
    assert {key: again[key] for key in ("measures", "optimum", "spectra")} == {
        key: written[key] for key in ("measures", "optimum", "spectra")
    }
    assert {"effective_rank", "lidar", "invariance", "marginal_entropy"} <= again["measures"].keys()
    (path,) = (run / "controls" / "seed1").glob("untrained-*/diagnostics-*.json")
    control = json.loads(path.read_text())
    assert control["measures"]["invariance"] != written["measures"]["invariance"]


def test_diagnose_prints_a_table_with_the_optimum_and_what_it_says(run: Path) -> None:
    shown = call("diagnose", run / "simclr" / "seed0", "diagnostics.after_views=2").stdout
    assert "what it says" in shown
    assert "optimum" in shown
    assert "64 images of the test split, 2 views each; 32 dimensions" in shown


def test_changed_diagnostics_are_made_again_and_others_kept(run: Path) -> None:
    changed = run / "simclr" / "seed0" / "diagnostics.json"
    (kept,) = (run / "controls" / "seed0").glob("raw_pixels-*/probes.json")
    before, time_of_kept = changed.stat().st_mtime_ns, kept.stat().st_mtime_ns
    call("run", "smoke", "--out", run, "seeds=[0, 1]")
    assert changed.stat().st_mtime_ns == before
    call("run", "smoke", "--out", run, "seeds=[0, 1]", "diagnostics.after_views=6")
    assert json.loads(changed.read_text())["num_views"] == 6
    assert kept.stat().st_mtime_ns == time_of_kept


def test_probe_takes_other_probes(run: Path) -> None:
    (found,) = json.loads(
        call("probe", run / "dissl" / "seed1", "probes=[{name: logistic, max_iterations: 5}]", "--json").stdout
    )
    assert found["probe"] == "logistic"


def test_held_out_report_never_reads_the_test_split(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = json.loads(call("probe", run / "dissl" / "seed1", "evaluation.report_on=held_out", "--json").stdout)
    assert found["split"] == "held_out"
    assert found["num_split_images"] < 64


def test_changed_probes_are_run_again_without_training(run: Path) -> None:
    weights = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    call("run", "smoke", "--out", run, "seeds=[0, 1]", "probes=[{name: knn, ks: [3]}]")
    (found,) = json.loads((run / "simclr" / "seed0" / "probes.json").read_text())
    assert found["chosen"]["k"] == 3
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == weights


def test_arms_of_one_seed_start_from_the_same_encoder() -> None:
    from issl_engine.recipe.load import load_recipe
    from issl_engine.training.build import build_encoder

    recipes = load_recipe("smoke").arms
    first, second = (build_encoder(recipe, 3).state_dict() for recipe in recipes.values())
    assert all(first[name].equal(second[name]) for name in first)


def test_pretrain_prints_its_checkpoint(tmp_path: Path) -> None:
    out = call("pretrain", "smoke", "--arm", "simclr", "--seed", "5", "--out", tmp_path, "--json").stdout
    assert Path(json.loads(out)["checkpoint"]).parent == tmp_path / "simclr" / "seed5" / "checkpoints"


def test_environment_names_versions_and_no_person_or_place() -> None:
    record = collect_environment()
    assert record["deepspeed"]
    assert record["dali"]
    text = json.dumps(record)
    assert str(Path.home()) not in text
    assert os.uname().nodename not in text


def test_doctor_finds_what_every_run_needs() -> None:
    assert all(check.found for check in checks() if check.needed)
    missing = [check for check in checks() if not check.found]
    assert all(check.advice for check in missing)
    assert "torch" in call("doctor").stdout
