"""Training goes on while a checkpoint is written, and hears of it when that fails."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.checkpoints import saver as saver_module
from issl_engine.training.checkpoints import writer
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest, read_manifest
from issl_engine.training.checkpoints.restore import restore_checkpoint
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.checkpoints.verify import latest_checkpoint, verify_checkpoint
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain

from ..conftest import make_images, make_recipe


def tiny() -> Dataset:
    train: ImageSet = make_images(40, 0)
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=train, test=make_images(16, 1))


class Saving:
    """A saver with an engine of its own, and a gate that the thread's writes wait at."""

    def __init__(self, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ranks = start_ranks()
        self.plan = make_plan(recipe, tiny(), ranks)
        self.learner = build_learner(recipe, self.plan, ranks, seed=0)
        self.engine = build_engine(self.learner, recipe, self.plan)
        self.saver = CheckpointSaver(
            folder, recipe=recipe, seed=0, engine=self.engine, learner=self.learner, online_probe=None, ranks=ranks
        )
        self.gate = threading.Event()
        write = writer.write_tensor_file

        def gated(*given: Any) -> Any:
            self.gate.wait()
            return write(*given)

        monkeypatch.setattr(writer, "write_tensor_file", gated)

    def save(self, step: int) -> Path:
        return self.saver.save(self.plan.progress(step), seconds=0.0)

    def restore(self, checkpoint: Path) -> Manifest:
        return restore_checkpoint(
            checkpoint, engine=self.engine, learner=self.learner, online_probe=None, ranks=start_ranks()
        )


def test_the_loop_goes_on_and_the_checkpoint_holds_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saving = Saving(make_recipe("swav"), tmp_path, monkeypatch)
    state = dict(saving.learner.named_parameters()) | dict(saving.learner.named_buffers())
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    with caplog.at_level(logging.DEBUG, logger="issl_engine"):
        target = saving.save(3)
    assert "MB of the checkpoint to host memory in" in caplog.text
    assert not target.exists()
    with torch.no_grad():
        for tensor in state.values():
            tensor.zero_()
    saving.gate.set()
    saving.saver.wait()
    verify_checkpoint(target)
    saved = {f"encoder.{name}": tensor for name, tensor in load_file(target / "encoder.safetensors").items()}
    saved |= load_file(target / "learner.safetensors")
    rank = load_file(target / "rank0000.safetensors")
    saved |= {name.removeprefix("learner/"): tensor for name, tensor in rank.items() if name.startswith("learner/")}
    assert saved.keys() == before.keys()
    assert all(saved[name].equal(before[name]) for name in before)
    saving.engine.close()


def test_all_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = Saving(make_recipe("dino"), tmp_path, monkeypatch)
    saving.gate.set()
    tensors = [*saving.learner.parameters(), *saving.learner.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    target = saving.save(3)
    expected = torch.rand(3)
    saving.saver.wait()
    with torch.no_grad():
        for tensor in tensors:
            tensor.zero_()
    assert saving.restore(target).step == 3
    assert all(tensor.equal(value) for tensor, value in zip(tensors, before, strict=True))
    assert torch.rand(3).equal(expected)


@pytest.mark.gpu
def test_random_numbers_of_a_gpu_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = Saving(make_recipe(), tmp_path, monkeypatch)
    saving.gate.set()
    target = saving.save(3)
    saving.saver.wait()
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(7)
    saving.restore(target)
    assert torch.rand(3, device="cuda").equal(expected)


def test_one_write_at_a_time_and_a_wait_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saver_module, "LONG_WAIT_SECONDS", 0.05)
    saving = Saving(make_recipe(), tmp_path, monkeypatch)
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        for step in (1, 2, 3):
            opening = threading.Timer(0.2, saving.gate.set)
            saving.gate.clear()
            saving.save(step)
            opening.start()
            if step > 1:
                assert (tmp_path / f"step_{step - 1:08d}").exists()
        saving.saver.wait()
    assert caplog.text.count("for the checkpoint before to reach the disk; raise checkpoint.every_epochs") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]
    saving.engine.close()


def test_without_asynchronous_it_is_there_on_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = Saving(make_recipe(checkpoint={"asynchronous": False}), tmp_path, monkeypatch)
    saving.gate.set()
    verify_checkpoint(saving.save(1))
    saving.engine.close()


def test_a_failed_write_ends_training_long_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    steps = []

    def full(*_: object) -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    def on_log(record: dict[str, float], total_steps: int) -> None:
        steps.append(record["step"])
        if record["step"] == 7:
            assert failed.wait(10)

    monkeypatch.setattr(writer, "write_tensor_file", full)
    recipe = make_recipe(
        training={"epochs": 4, "global_batch_size": 8, "log_every_steps": 1, "threads": 1},
        checkpoint={"every_epochs": 1.2},
    )
    with pytest.raises(CheckpointError, match=r"step_00000006: .*\(No space left on device\); earlier checkpoints are"):
        pretrain(recipe, tiny(), start_ranks(), folder=tmp_path, seed=0, on_log=on_log)
    assert steps[-1] < 12


def test_a_start_removes_what_a_killed_run_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = tmp_path / "checkpoints" / ".partial_step_00000005"
    left.mkdir(parents=True)
    (left / "encoder.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        pretrain(make_recipe(), tiny(), start_ranks(), folder=tmp_path, seed=0)
    assert f"{left}: removed; a run that was killed left it behind" in caplog.text
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_another_format_is_refused_and_nothing_overwritten(tmp_path: Path) -> None:
    newest = pretrain(make_recipe(), tiny(), start_ranks(), folder=tmp_path, seed=0)
    manifest = json.loads((newest / "manifest.json").read_text())
    (newest / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(CheckpointError, match="written in checkpoint format 1"):
        pretrain(make_recipe(), tiny(), start_ranks(), folder=tmp_path, seed=0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_manifest_holds_the_probes_accuracy_since_the_one_before(tmp_path: Path) -> None:
    recipe = make_recipe(checkpoint={"every_epochs": 1, "keep": 1, "keep_best": True, "keep_every_epochs": 1})
    newest = pretrain(recipe, tiny(), start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    top1 = [record["online_top1"] for record in records]
    found = [read_manifest(path).online_top1 for path in (newest.parent / "step_00000005", newest)]
    assert found == pytest.approx([sum(top1[:5]) / 5, sum(top1[5:]) / 5])
    manifest = read_manifest(newest)
    assert (manifest.finished, manifest.world_size, manifest.zero_stage) == (True, 1, 0)
    assert manifest.versions["torch"] == torch.__version__
    assert manifest.parameters["encoder"] == sum(w.numel() for w in load_encoder_weights(newest))
    assert latest_checkpoint(newest.parent) == newest


def load_encoder_weights(checkpoint: Path) -> list[torch.Tensor]:
    tensors = load_file(checkpoint / "encoder.safetensors")
    return [value for name, value in tensors.items() if not name.endswith(("_mean", "_var", "_tracked"))]


def test_best_without_an_online_probe_is_refused() -> None:
    with pytest.raises(ValueError, match=r"checkpoint\.keep_best goes by the online probe's accuracy"):
        make_recipe(checkpoint={"keep_best": True}, online_probe=None)
