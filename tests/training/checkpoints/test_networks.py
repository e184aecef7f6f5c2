"""The two networks of an objective with an EMA teacher: each has its file, and earlier checkpoints still have both."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints.consolidate import consolidate
from issl_engine.training.checkpoints.digests import sha256_of
from issl_engine.training.checkpoints.encoder import load_encoder
from issl_engine.training.checkpoints.learner import load_learner
from issl_engine.training.checkpoints.manifest import CheckpointError
from issl_engine.training.pretrain import pretrain

from ..conftest import make_images, make_recipe


def tiny() -> Dataset:
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))


def as_before(checkpoint: Path) -> None:
    """The checkpoint as versions before the teacher's own file wrote it."""
    teacher, learner = checkpoint / "teacher_encoder.safetensors", checkpoint / "learner.safetensors"
    tensors = load_file(learner) | {f"teacher.encoder.{name}": one for name, one in load_file(teacher).items()}
    save_file(tensors, learner)
    teacher.unlink()
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"][teacher.name]
    manifest["files"][learner.name] = {"bytes": learner.stat().st_size, "sha256": sha256_of(learner)}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_the_teachers_encoder_is_a_file_of_its_own(tmp_path: Path) -> None:
    checkpoint = pretrain(make_recipe("dino"), tiny(), start_ranks(), folder=tmp_path, seed=0)
    student, teacher = (load_file(checkpoint / f"{name}.safetensors") for name in ("encoder", "teacher_encoder"))
    assert student.keys() == teacher.keys()
    weights = [name for name in student if name.endswith("weight")]
    assert any(not student[name].equal(teacher[name]) for name in weights)
    assert not [name for name in load_file(checkpoint / "learner.safetensors") if name.startswith("teacher.encoder")]
    for name, expected in (("student", student), ("teacher", teacher)):
        encoder, _, _ = load_encoder(tmp_path, name)
        assert all(value.equal(expected[key]) for key, value in encoder.state_dict().items()), name
    learner, _ = load_learner(checkpoint, tiny(), start_ranks())
    assert all(value.equal(teacher[key]) for key, value in learner.network("teacher").state_dict().items())
    whole = consolidate(checkpoint, tmp_path / "all.safetensors").tensors
    assert all(whole[f"teacher.encoder.{key}"].equal(value) for key, value in teacher.items())


def test_a_checkpoint_of_an_earlier_version_resumes_and_is_probed(tmp_path: Path) -> None:
    short = make_recipe("dino", checkpoint={"every_epochs": 1, "keep": 9})
    (tmp_path / "whole").mkdir()
    newest = pretrain(short, tiny(), start_ranks(), folder=tmp_path / "whole", seed=0)
    expected = {path.name: load_file(path) for path in newest.glob("*.safetensors")}
    teacher = load_encoder(newest, "teacher")[0].state_dict()
    half = newest.parent / "step_00000005"
    assert half.is_dir()
    as_before(half)
    assert load_encoder(half, "teacher")[0].state_dict().keys() == teacher.keys()
    for checkpoint in newest.parent.iterdir():
        if checkpoint != half:
            checkpoint.rename(tmp_path / checkpoint.name)
    again = pretrain(short, tiny(), start_ranks(), folder=tmp_path / "whole", seed=0)
    assert again == newest
    for name, tensors in expected.items():
        found = load_file(again / name)
        assert all(found[key].equal(value) for key, value in tensors.items()), name
    as_before(again)
    loaded = load_encoder(again, "teacher")[0].state_dict()
    assert all(loaded[key].equal(value) for key, value in teacher.items())


def test_there_is_no_teacher_to_take(tmp_path: Path) -> None:
    pretrain(make_recipe("simclr"), tiny(), start_ranks(), folder=tmp_path, seed=0)
    with pytest.raises(CheckpointError, match=r"objective\.name simclr has none .*dino.*evaluation\.network"):
        load_encoder(tmp_path, "teacher")
    assert not list(tmp_path.rglob("teacher_encoder.safetensors"))


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_ranks_write_all_files(run_ranks, tmp_path: Path, zero_stage: int) -> None:
    digests = run_ranks(trained_on, str(tmp_path), zero_stage, world_size=2)
    assert digests[0] == digests[1]
    assert {"encoder.safetensors", "teacher_encoder.safetensors"} <= set(digests[0])


def trained_on(ranks, folder: str, zero_stage: int) -> dict[str, str]:
    recipe = make_recipe("dino", deepspeed={"zero_stage": zero_stage})
    checkpoint = pretrain(recipe, tiny(), ranks, folder=Path(folder), seed=0)
    ranks.barrier()
    learner, _ = load_learner(checkpoint, tiny(), ranks)
    saved = load_file(checkpoint / "teacher_encoder.safetensors")
    for name, weight in learner.network("teacher").named_parameters():
        torch.testing.assert_close(weight, saved[name], rtol=0, atol=0)
    return {path.name: sha256_of(path) for path in checkpoint.glob("*encoder.safetensors")}
