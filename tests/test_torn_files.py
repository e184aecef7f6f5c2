"""A run folder whose files a kill has left torn or empty is mended by the same command; nothing is a traceback."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.run import arm
from issl_engine.whole_file import write_whole

SMALL = (
    "source.num_train=64", "source.num_test=16", "training.global_batch_size=16", "training.epochs=2",
    "training.log_every_steps=1", "checkpoint.every_epochs=1", "probes=[{name: knn, ks: [3]}]",
)  # fmt: skip


def run_again(folder: Path) -> str:
    """What the command logs."""
    result = CliRunner().invoke(main, ["run", "smoke", "--arm", "simclr", "--out", str(folder), *SMALL])
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torn")
    run_again(folder / "run")
    return folder / "run"


def written_files(run: Path) -> list[str]:
    """Every file of the run folder that is no checkpoint's, log or lock."""
    paths = [path for path in run.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    return [str(path.relative_to(run)) for path in paths if path.name not in ("log.txt", ".lock")]


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_torn_files_are_mended_at_the_next_start(run: Path, left: float) -> None:
    names = written_files(run)
    assert {"run.json", "environment.json", "results.csv", "report.html", "recipe.yaml"} <= set(names)
    assert {"simclr/seed0/probes.json", "simclr/seed0/resolved.yaml", "simclr/seed0/metrics.jsonl"} <= set(names)
    assert {"simclr/seed0/kept.json", "simclr/seed0/controls.json", "kept.json"} <= set(names)
    (untrained,) = (
        name for name in names if name.startswith("controls/seed0/untrained-") and name.endswith("probes.json")
    )
    (pixels,) = (name for name in names if name.startswith("controls/seed0/raw_pixels-") and name.endswith("kept.json"))
    assert untrained.removesuffix("probes.json") + "kept.json" in names
    assert pixels.removesuffix("kept.json") + "probes.json" in names
    whole = {name: (run / name).read_bytes() for name in names}
    for name in names:
        if not name.endswith("metrics.jsonl"):  # training is over; lines are a matter of resuming
            (run / name).write_bytes(whole[name][: int(left * len(whole[name]))])
    log = run_again(run)
    assert "Traceback" not in log
    dated = ("run.json", "environment.json", "results.csv", "report.html")
    for name in names:
        mended = (run / name).read_bytes()
        assert len(mended) > 0.95 * len(whole[name]), name
        if name not in dated:
            assert mended == whole[name], name
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_a_damaged_file_is_named(run: Path) -> None:
    (run / "simclr" / "seed0" / "probes.json").write_text('[{"probe": 3}]')
    assert "probes.json: the file is damaged, and is made anew" in run_again(run)
    assert json.loads((run / "simclr" / "seed0" / "probes.json").read_text())[0]["probe"] == "knn"


def test_a_kill_between_two_sets_of_probes_leaves_the_first_until_the_second_is_there(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """resolved.yaml is of the new probes by then, and must not vouch for the results of the old ones."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(arm, "probe_encoder", killed)
        arguments = ["run", "smoke", "--arm", "simclr", "--out", str(run), *SMALL[:-1], "probes=[{name: knn, ks: [5]}]"]
        assert CliRunner().invoke(main, arguments).exit_code != 0
        (found,) = json.loads((run / "simclr" / "seed0" / "probes.json").read_text())
        assert found["chosen"]["k"] == 3
    assert CliRunner().invoke(main, arguments).exit_code == 0
    (found,) = json.loads((run / "simclr" / "seed0" / "probes.json").read_text())
    assert found["chosen"]["k"] == 5


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_whole(path, "before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("issl_engine.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, "after")
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
