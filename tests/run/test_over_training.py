"""Accuracy over training: the first probe on checkpoints of the way, kept, gone on with, and shown."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.training.watch.interruption import Interrupted

# 8 steps: the probed checkpoints are those of steps 3, 5 and 8, of which none but the last is due otherwise.
OVERRIDES = (
    "evaluation.over_training=3", "checkpoint.every_epochs=0.5", "checkpoint.keep=1",
    "probes=[{name: knn}, {name: ridge}]",
)  # fmt: skip


def call(*arguments: str | Path, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def run(folder: Path, *more: str, exit_code: int = 0) -> Result:
    return call("run", "smoke", *OVERRIDES, *more, "--arm", "simclr", "--out", folder, exit_code=exit_code)


def probed(folder: Path) -> dict[int, int]:
    """Step of each result on the way → when it was written, in ns."""
    files = (folder / "simclr" / "seed0" / "over_training").glob("step_*.json")
    return {json.loads(path.read_text())["step"]: path.stat().st_mtime_ns for path in sorted(files)}


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "simclr" / "seed0" / "checkpoints").glob("step_*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("over_training") / "run"
    run(folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_checkpoints_of_the_way_stay_and_are_probed_by_the_first_probe(finished: Path) -> None:
    assert checkpoints(finished) == [3, 5, 8]
    assert list(probed(finished)) == [3, 5]
    (one,) = json.loads((finished / "simclr/seed0/over_training/step_00000003.json").read_text())["results"]
    again = json.loads(
        call("probe", finished / "simclr/seed0/checkpoints/step_00000003", "probes=[{name: knn}]", "--json").stdout
    )
    assert (one["probe"], one["value"]) == ("knn", again[0]["value"])


def test_the_report_has_the_curve_from_the_untrained_encoder_to_the_last_checkpoint(finished: Path) -> None:
    with (finished / "over_training.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["step"], line["epoch"], line["probe"]) for line in lines] == [
        ("0", "0.0", "knn"), ("3", "0.375", "knn"), ("5", "0.625", "knn"), ("8", "1.0", "knn"),
    ]  # fmt: skip
    (control,) = (finished / "controls" / "seed0").glob("untrained-*/probes.json")
    last = json.loads((finished / "simclr" / "seed0" / "probes.json").read_text())
    assert float(lines[0]["value"]) == json.loads(control.read_text())[0]["value"]
    assert float(lines[-1]["value"]) == round(last[0]["value"], 4)
    page = (finished / "report.html").read_text()
    assert "of the probe fitted anew on each checkpoint" in page
    shown = call("report", finished).stdout
    assert "over training, kNN top-1 % by epochs" in shown
    assert f"  simclr  0: {float(lines[0]['value']):.1f}  0.375: {float(lines[1]['value']):.1f}" in shown
    (arm,) = json.loads(call("report", finished, "--json").stdout)["arms"]
    assert [one["epoch"] for one in arm["seeds"][0]["over_training"]] == [0.375, 0.625]


def test_nothing_is_done_twice_and_what_changed_is_done_again(copied: Path) -> None:
    before = probed(copied)
    run(copied)
    assert probed(copied) == before
    run(copied, "probes=[{name: knn, ks: [3]}]")
    after = probed(copied)
    assert all(after[step] > before[step] for step in (3, 5))
    run(copied, "evaluation.over_training=0")
    assert probed(copied) == {}
    assert not (copied / "over_training.csv").exists()


def test_a_result_outlives_its_checkpoint_until_it_would_be_another(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copied / "simclr" / "seed0" / "checkpoints" / "step_00000003")
    before = probed(copied)
    run(copied)
    assert probed(copied) == before
    run(copied, "probes=[{name: knn, ks: [3]}]")
    assert list(probed(copied)) == [5]
    assert "no checkpoint is left of step_00000003" in caplog.text


def test_a_key_that_comes_after_training_names_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, "evaluation.over_training=0")
    assert checkpoints(tmp_path) == [8]
    run(tmp_path)
    assert "no checkpoint is left of step_00000003, step_00000005" in caplog.text
    assert probed(tmp_path) == {}


def test_a_run_that_is_stopped_while_it_probes_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from issl_engine.run import over_training

    real, asked = over_training._probe, []

    def stops_at_the_second(*arguments: object) -> None:
        asked.append(arguments)
        if len(asked) == 2:
            raise Interrupted("stopped")
        real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(over_training, "_probe", stops_at_the_second)
        run(tmp_path, exit_code=75)
    first = probed(tmp_path)
    assert list(first) == [3]
    run(tmp_path)
    assert list(probed(tmp_path)) == [3, 5]
    assert probed(tmp_path)[3] == first[3]


def test_a_training_that_is_stopped_on_the_way_has_the_same_checkpoints(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from issl_engine.training.checkpoints.saver import CheckpointSaver

    save = CheckpointSaver.save

    def stops_after_the_third_step(self: CheckpointSaver, progress: object, **settings: object) -> Path:
        saved = save(self, progress, **settings)  # type: ignore[arg-type]
        if progress.step == 4:  # type: ignore[attr-defined]
            self.wait()
            raise Interrupted("stopped")
        return saved

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "save", stops_after_the_third_step)
        run(tmp_path, exit_code=75)
    assert checkpoints(tmp_path) == [3, 4]
    run(tmp_path)
    assert checkpoints(tmp_path) == [3, 5, 8]
    for name in ("step_00000003.json", "step_00000005.json"):
        place = Path("simclr/seed0/over_training") / name
        assert (tmp_path / place).read_bytes() == (finished / place).read_bytes()


def test_both_networks_have_a_curve_each_from_one_untrained_encoder(tmp_path: Path) -> None:
    run(tmp_path, "arms.simclr.objective={name: byol, hidden_dim: 32}", "evaluation.network=both")
    with (tmp_path / "over_training.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    steps = {name: [line["step"] for line in lines if line["network"] == name] for name in ("", "teacher")}
    assert steps == {"": ["0", "3", "5", "8"], "teacher": ["0", "3", "5", "8"]}  # the student goes without a name
    assert lines[0]["value"] == lines[4]["value"]
