"""Interrupted + resumed equals uninterrupted, bit for bit."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints import writer
from issl_engine.training.checkpoints.manifest import CheckpointError, read_manifest
from issl_engine.training.checkpoints.verify import latest_checkpoint
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.interruption import Interrupted

from .conftest import make_recipe


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def stop_at(step: int) -> Any:
    def on_log(record: dict[str, float], total_steps: int) -> None:
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_log


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first / "encoder.safetensors"), load_file(second / "encoder.safetensors")
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


SCHEDULED_DECAY = {
    "name": "adamw", "lr": 0.003, "weight_decay": 0.04, "weight_decay_end": 0.4,
    "groups": [{"of": "biases_and_norms", "lr_factor": 0.1}, {"of": "heads", "follows_schedule": False}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "optimizer", "zero_stage"),
    [
        ("swav", {"name": "larc", "lr": 0.3}, 0),
        ("dino", {"name": "adamw", "lr": 0.003}, 0),
        ("dissl", {"name": "sgd", "lr": 0.1}, 0),
        ("simclr", {"name": "adam", "lr": 0.003}, 0),
        ("byol", {"name": "adamw", "lr": 0.003}, 1),
        ("dino", {"name": "sgd", "lr": 0.1}, 2),
        ("dino", SCHEDULED_DECAY, 0),
        ("simsiam", SCHEDULED_DECAY, 2),
    ],
)
def test_resumed_mid_epoch_equals_uninterrupted(
    objective: str, optimizer: dict[str, Any], zero_stage: int, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe(objective, optimizer=optimizer, deepspeed={"zero_stage": zero_stage})
    ranks = start_ranks()
    whole = pretrain(recipe, dataset, ranks, folder=mkdir(tmp_path / "whole"), seed=3)
    parts = mkdir(tmp_path / "parts")
    with pytest.raises(Interrupted, match="step 3 of 10"):
        pretrain(recipe, dataset, ranks, folder=parts, seed=3, on_log=stop_at(3))
    with pytest.raises(Interrupted, match="step 7 of 10"):
        pretrain(recipe, dataset, ranks, folder=parts, seed=3, on_log=stop_at(7))
    resumed = pretrain(recipe, dataset, ranks, folder=parts, seed=3)
    assert losses(parts) == losses(tmp_path / "whole")
    assert same_weights(whole, resumed)


def test_resumed_at_another_zero_stage_goes_on_alike(dataset: Dataset, tmp_path: Path) -> None:
    ranks = start_ranks()
    pretrain(make_recipe(), dataset, ranks, folder=mkdir(tmp_path / "whole"), seed=3)
    parts = mkdir(tmp_path / "parts")
    for step, stage in ((2, 0), (4, 2), (7, 0), (10, 1)):
        recipe = make_recipe(deepspeed={"zero_stage": stage})
        if step < 10:
            with pytest.raises(Interrupted, match=f"step {step} of 10"):
                pretrain(recipe, dataset, ranks, folder=parts, seed=3, on_log=stop_at(step))
        else:
            pretrain(recipe, dataset, ranks, folder=parts, seed=3)
    assert losses(parts) == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_other_seed_gives_other_weights(dataset: Dataset, tmp_path: Path) -> None:
    ranks = start_ranks()
    first = pretrain(make_recipe(), dataset, ranks, folder=mkdir(tmp_path / "a"), seed=1)
    second = pretrain(make_recipe(), dataset, ranks, folder=mkdir(tmp_path / "b"), seed=2)
    assert not same_weights(first, second)


def test_online_probe_leaves_the_encoder_alone(dataset: Dataset, tmp_path: Path) -> None:
    ranks = start_ranks()
    probed = pretrain(make_recipe(), dataset, ranks, folder=mkdir(tmp_path / "a"), seed=1)
    alone = pretrain(make_recipe(online_probe=None), dataset, ranks, folder=mkdir(tmp_path / "b"), seed=1)
    assert same_weights(probed, alone)


def test_damaged_checkpoint_is_passed_over_for_the_one_before(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe(checkpoint={"every_epochs": 1, "keep": 2})
    newest = pretrain(recipe, dataset, start_ranks(), folder=mkdir(tmp_path / "run"), seed=0)
    before = newest.parent / "step_00000005"
    whole = losses(tmp_path / "run")
    weights = (newest / "encoder.safetensors").read_bytes()
    (newest / "encoder.safetensors").write_bytes(weights[:-100])
    assert latest_checkpoint(newest.parent) == before
    assert "encoder.safetensors is damaged" in caplog.text
    again = pretrain(recipe, dataset, start_ranks(), folder=tmp_path / "run", seed=0)
    assert (again / "encoder.safetensors").read_bytes() == weights
    assert losses(tmp_path / "run") == whole


def test_no_whole_checkpoint_is_an_error_not_a_fresh_start(dataset: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(checkpoint={"every_epochs": 2, "keep": 1})
    only = pretrain(recipe, dataset, start_ranks(), folder=mkdir(tmp_path / "run"), seed=0)
    (only / "manifest.json").write_text('{"step": 1')
    with pytest.raises(CheckpointError, match="none of its 1 checkpoints is whole"):
        pretrain(recipe, dataset, start_ranks(), folder=tmp_path / "run", seed=0)


def test_keeps_the_newest_checkpoints_only(dataset: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(checkpoint={"every_epochs": 0.4, "keep": 2})
    newest = pretrain(recipe, dataset, start_ranks(), folder=mkdir(tmp_path / "run"), seed=0)
    assert sorted(path.name for path in newest.parent.iterdir()) == ["step_00000008", "step_00000010"]
    assert read_manifest(newest).finished


def test_unwritable_checkpoint_keeps_the_earlier_one(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(checkpoint={"every_epochs": 1, "keep": 1})
    publish = writer.publish

    def full_disk(partial: Path, target: Path) -> None:
        if target.name == "step_00000010":
            raise OSError(28, "No space left on device")
        publish(partial, target)

    monkeypatch.setattr(writer, "publish", full_disk)
    with pytest.raises(CheckpointError, match=r"No space left on device.*earlier checkpoints are untouched"):
        pretrain(recipe, dataset, start_ranks(), folder=mkdir(tmp_path / "run"), seed=0)
    found = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.name == "step_00000005"


def mkdir(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_the_scheduled_weight_decay_is_on_every_line(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(make_recipe(optimizer=SCHEDULED_DECAY), dataset, start_ranks(), folder=mkdir(tmp_path / "run"), seed=0)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    decays = [line["weight_decay"] for line in lines]
    expected = [0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert decays == pytest.approx(expected)
