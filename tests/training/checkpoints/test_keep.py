"""Which checkpoints stay."""

from pathlib import Path

import pytest

from issl_engine.training.checkpoints.keep import KeepRule, plan_pruning, prune
from issl_engine.training.checkpoints.verify import verify_checkpoint

from .conftest import damage, make


def steps(paths: list[Path]) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in paths]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Ten checkpoints, each 0.3 epochs after the one before; the fourth has the best probe, and the seventh too."""
    for step in range(1, 11):
        make(tmp_path, step, epoch=0.3 * step, top1={4: 50.0, 7: 50.0}.get(step, 40.0))
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (KeepRule(newest=2), [9, 10]),
        (KeepRule(newest=20), list(range(1, 11))),
        (KeepRule(newest=1, every_epochs=1), [4, 7, 10]),
        (KeepRule(newest=1, every_epochs=0.6), [2, 4, 6, 8, 10]),
        (KeepRule(newest=1, every_epochs=0.3), list(range(1, 11))),  # 0.3 x 3 / 0.3 is a little less than 3
        (KeepRule(newest=1, best=True), [4, 10]),
        (KeepRule(newest=2, every_epochs=1.5, best=True), [4, 5, 9, 10]),
        (KeepRule(newest=1, steps=frozenset({2, 5, 77})), [2, 5, 10]),
    ],
)
def test_the_rule(rule: KeepRule, kept: list[int], ten: Path) -> None:
    stay, go = plan_pruning(ten, rule)
    assert steps(stay) == kept
    assert steps(go) == [step for step in range(1, 11) if step not in kept]


def test_pruning_as_training_goes_keeps_what_pruning_at_the_end_would(ten: Path, tmp_path: Path) -> None:
    rule = KeepRule(newest=1, every_epochs=1, best=True)
    at_once, _ = plan_pruning(ten, rule)
    (tmp_path / "again").mkdir()
    for step in range(1, 11):
        make(tmp_path / "again", step, epoch=0.3 * step, top1={4: 50.0, 7: 50.0}.get(step, 40.0))
        prune(tmp_path / "again", rule)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [path.name for path in at_once]


def test_damaged_ones_do_not_count_and_the_only_whole_one_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    for step in (1, 3, 4):
        damage(tmp_path / f"step_{step:08d}")
    stay, go = plan_pruning(tmp_path, KeepRule(newest=1), check=verify_checkpoint)
    assert steps(stay) == [2, 3, 4]
    assert steps(go) == [1]


def test_where_none_is_whole_nothing_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (make(tmp_path, step) / "manifest.json").unlink()
    assert plan_pruning(tmp_path, KeepRule(newest=1))[1] == []


def test_those_of_another_version_stay(tmp_path: Path) -> None:
    old, _ = make(tmp_path, 1), make(tmp_path, 2)
    manifest = old / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    assert plan_pruning(tmp_path, KeepRule(newest=1))[1] == []


def test_what_cannot_be_deleted_is_named(
    ten: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    prune(ten, KeepRule(newest=9))
    assert f"{ten / 'step_00000001'}: this older checkpoint could not be deleted (Permission denied)" in caplog.text
