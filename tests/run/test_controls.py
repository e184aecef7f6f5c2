"""Each arm is compared with its own controls; arms that agree on what a control depends on share it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.report.answers_file import read_answers
from issl_engine.report.differences import all_differences
from issl_engine.report.run_folder import load_run

SMALL = (
    "source.num_train=64", "source.num_test=16", "training.global_batch_size=16", "probes=[{name: knn, ks: [3]}]",
    "diagnostics.after_images=16", "diagnostics.after_views=2",
)  # fmt: skip


def call(out: Path, *overrides: str) -> str:
    result = CliRunner().invoke(main, ["run", "smoke", "--out", str(out), *SMALL, *overrides])
    assert result.exit_code == 0, result.output
    return result.stderr


def named(run: Path, arm: str) -> dict[str, dict[str, str | int]]:
    return json.loads((run / arm / "seed0" / "controls.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controls")
    call(folder / "run", "arms.dissl.encoder.dim=24")
    return folder / "run"


def test_an_arm_with_another_encoder_has_an_untrained_encoder_of_its_own(run: Path) -> None:
    narrow, wide = named(run, "dissl"), named(run, "simclr")
    assert (narrow["untrained"]["dim"], wide["untrained"]["dim"]) == (24, 32)
    assert narrow["untrained"]["folder"] != wide["untrained"]["folder"]
    assert narrow["raw_pixels"] == wide["raw_pixels"]
    assert len(list((run / "controls" / "seed0").iterdir())) == 3
    for control in (*narrow.values(), *wide.values()):
        assert (run / str(control["folder"]) / "probes.json").stat().st_size > 0
    text = (run / "results.csv").read_text()
    assert "untrained encoder (24)" in text
    assert "untrained encoder (32)" in text


def test_arms_that_agree_share_controls_but_not_what_depends_on_their_views(run: Path) -> None:
    out = run.parent / "shared"
    log = call(out, "arms.dissl.views.augmentation.greyscale=0.5")
    assert log.count("probing the control 'untrained'") == 1
    first, second = named(out, "simclr"), named(out, "dissl")
    assert first["untrained"]["folder"] == second["untrained"]["folder"]
    assert first["untrained"]["diagnostics"] != second["untrained"]["diagnostics"]
    place = out / str(first["untrained"]["folder"])
    assert len(list(place.glob("diagnostics-*.json"))) == 2


def test_controls_are_made_once(run: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in (run / "controls").rglob("*") if path.is_file()}
    log = call(run, "arms.dissl.encoder.dim=24")
    assert "probing the control" not in log
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_pretraining_alone_leaves_the_controls_of_a_probed_run(run: Path) -> None:
    before, probes = named(run, "simclr"), (run / "simclr" / "seed0" / "probes.json").read_bytes()
    arguments = ["pretrain", "smoke", "--arm", "simclr", "--out", str(run), *SMALL]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert named(run, "simclr") == before
    assert (run / "simclr" / "seed0" / "probes.json").read_bytes() == probes


def test_with_other_probes_the_old_controls_are_not_shown(run: Path) -> None:
    before = named(run, "simclr")
    call(run, "arms.dissl.encoder.dim=24", "probes=[{name: nearest_mean}]")
    assert named(run, "simclr")["untrained"]["folder"] != before["untrained"]["folder"]
    lines = (run / "results.csv").read_text().splitlines()
    assert all("nearest_mean" in line for line in lines[1:])


def test_beside_the_probes_lie_their_answers_and_both_are_kept_together(run: Path) -> None:
    call(run, "arms.dissl.encoder.dim=24")
    places = [run / arm / "seed0" for arm in ("simclr", "dissl")]
    places.append(run / str(named(run, "dissl")["untrained"]["folder"]))
    for place in places:
        answers = read_answers(place / "answers.json")
        (result,) = json.loads((place / "probes.json").read_text())
        assert answers is not None
        right_N = answers.right_N("knn")
        assert right_N is not None
        assert answers.count == result["num_split_images"] == 16
        assert 100 * right_N.mean() == pytest.approx(result["value"])
        assert "right_N" not in result
    assert len({read_answers(place / "answers.json").judged for place in places}) == 1  # type: ignore[union-attr]
    (found,) = all_differences(load_run(run))
    assert found.covers == "images"
    written = (places[0] / "answers.json").read_bytes()
    (places[0] / "answers.json").write_text("{}")
    call(run, "arms.dissl.encoder.dim=24")
    assert (places[0] / "answers.json").read_bytes() == written
