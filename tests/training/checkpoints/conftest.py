"""Small checkpoints written as training writes them, without an engine."""

from functools import partial
from pathlib import Path

import pytest
import torch

from issl_engine.training.checkpoints import digests
from issl_engine.training.checkpoints.layout import ENCODER, LEARNER, rank_name
from issl_engine.training.checkpoints.manifest import Manifest, checkpoint_name
from issl_engine.training.checkpoints.snapshot import Snapshot
from issl_engine.training.checkpoints.tensor_file import TensorFile
from issl_engine.training.checkpoints.writer import CheckpointWrite

RECIPE = {"name": "tiny", "objective": {"name": "simclr"}, "encoder": {"name": "small_resnet"}}


@pytest.fixture(autouse=True)
def nothing_hashed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_digests", {})


def snapshot(rank: int = 0) -> Snapshot:
    first = {
        ENCODER: TensorFile(tensors={"weight": torch.arange(6.0).reshape(2, 3)}),
        LEARNER: TensorFile(tensors={"objective.head.weight": torch.ones(4)}),
    }
    return (first if rank == 0 else {}) | {rank_name(rank): TensorFile(tensors={"random": torch.arange(9) + rank})}


def start(
    folder: Path, step: int, *, epoch: float = 0.0, top1: float | None = None, rank: int = 0, world_size: int = 1
) -> CheckpointWrite:
    manifest = partial(
        Manifest, step=step, epoch=epoch, finished=False, world_size=world_size, zero_stage=0, recipe=RECIPE, seed=0,
        seconds=1.0, online_top1=top1, parameters={"encoder": 6, "objective": 4}, versions={"issl-engine": "0"},
    )  # fmt: skip
    return CheckpointWrite(
        folder / checkpoint_name(step), snapshot(rank), lambda files: manifest(files=files), rank=rank,
        world_size=world_size, when_complete=lambda: None,
    )  # fmt: skip


def make(folder: Path, step: int, *, epoch: float = 0.0, top1: float | None = None) -> Path:
    """A whole checkpoint of one rank."""
    write = start(folder, step, epoch=epoch, top1=top1)
    write.join()
    assert write.error is None
    return write.target


def damage(checkpoint: Path, name: str = LEARNER) -> None:
    """Changes one byte: the size stays."""
    content = bytearray((checkpoint / name).read_bytes())
    content[-1] ^= 1
    (checkpoint / name).write_bytes(content)
