"""Checkpoints that are whole or not there: written aside, checksummed, then renamed.

checkpoints/step_00000120/
    manifest.json           step, recipe, versions, SHA-256 of every other file
    encoder.safetensors     the representation alone: what probes and users load
    state/                  DeepSpeed: encoder, heads, teacher, queue, centre, optimiser
    rank0.pt ...            what differs by rank: random state, buffers (batch-norm, queue), online probe
"""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from issl_engine import __version__
from issl_engine.probing.online import OnlineProbe
from issl_engine.recipe.schema import Recipe
from issl_engine.training.deepspeed import Engine, Ranks
from issl_engine.training.learner import Learner

_log = logging.getLogger("issl_engine")

FORMAT = 1
MANIFEST = "manifest.json"
ENCODER = "encoder.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one sentence that names it and says what to do."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint says of itself. ``files`` maps relative names to SHA-256."""

    step: int
    epoch: float
    finished: bool
    world_size: int
    recipe: dict[str, Any]
    seed: int
    seconds: float
    files: dict[str, str]
    version: str = __version__
    format: int = FORMAT


def save_checkpoint(
    folder: Path,
    *,
    engine: Engine,
    learner: Learner,
    online_probe: OnlineProbe | None,
    ranks: Ranks,
    recipe: Recipe,
    seed: int,
    step: int,
    epoch: float,
    seconds: float,
    finished: bool,
    keep: int,
) -> Path:
    """Writes ``folder/step_<step>`` and prunes to the newest ``keep``. Every rank calls it. Raises CheckpointError."""
    target = folder / f"step_{step:08d}"
    partial = folder / f".partial_step_{step:08d}"
    try:
        if ranks.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        ranks.barrier()
        engine.save(partial)
        torch.save(_rank_state(learner, online_probe), partial / f"rank{ranks.rank}.pt")
        ranks.barrier()
        if ranks.is_first:
            weights = {name: tensor.contiguous() for name, tensor in learner.encoder.state_dict().items()}
            save_file(weights, partial / ENCODER)
            manifest = Manifest(
                step=step,
                epoch=epoch,
                finished=finished,
                world_size=ranks.world_size,
                recipe=recipe.model_dump(mode="json"),
                seed=seed,
                seconds=seconds,
                files=_digests(partial),
            )
            (partial / MANIFEST).write_text(json.dumps(manifest.__dict__, indent=1), encoding="utf-8")
            _publish(partial, target)
            _prune(folder, keep)
        ranks.barrier()
    except OSError as error:
        raise CheckpointError(
            f"{target}: the checkpoint could not be written ({error.strerror or error}); "
            "earlier checkpoints are untouched: free space or mend the folder's permissions, then run again"
        ) from error
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None. A torn one is named in a warning, and the one before it taken.

    Raises CheckpointError when checkpoints are there but none of them is whole.
    """
    candidates = sorted(folder.glob("step_*"), reverse=True)
    for candidate in candidates:
        try:
            verify_checkpoint(candidate)
        except CheckpointError as error:
            _log.warning("%s; trying the checkpoint before it", error)
            continue
        return candidate
    if candidates:
        raise CheckpointError(
            f"{folder}: none of its {len(candidates)} checkpoints is whole; move the folder away to begin anew"
        )
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether the manifest is readable and every file has its checksum."""
    try:
        verify_checkpoint(checkpoint)
    except CheckpointError:
        return False
    return True


def verify_checkpoint(checkpoint: Path) -> Manifest:
    """Reads the manifest and compares every file's checksum. Raises CheckpointError."""
    manifest = read_manifest(checkpoint)
    for name, digest in manifest.files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint}: the checkpoint lacks {name}")
        if _sha256(path) != digest:
            raise CheckpointError(f"{checkpoint}: {name} is damaged (its checksum differs from the manifest's)")
    return manifest


def read_manifest(checkpoint: Path) -> Manifest:
    """Raises CheckpointError when the folder is no checkpoint of this format."""
    path = checkpoint / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{checkpoint}: this is no checkpoint (it has no {MANIFEST})")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise CheckpointError(
                f"{checkpoint}: written in checkpoint format {record['format']}, this version reads {FORMAT}"
            )
        return Manifest(**record)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint}: {MANIFEST} is damaged") from error


def restore_checkpoint(
    checkpoint: Path, *, engine: Engine, learner: Learner, online_probe: OnlineProbe | None, ranks: Ranks
) -> Manifest:
    """Puts the state back, this rank's buffers and random numbers included. Raises CheckpointError."""
    manifest = read_manifest(checkpoint)
    if manifest.world_size != ranks.world_size:
        raise CheckpointError(
            f"{checkpoint}: saved by {manifest.world_size} ranks, this run has {ranks.world_size}; "
            "resume with as many ranks as before"
        )
    engine.load(checkpoint)
    state = torch.load(checkpoint / f"rank{ranks.rank}.pt", map_location="cpu", weights_only=True)
    buffers = dict(learner.named_buffers())
    with torch.no_grad():
        for name, value in state["buffers"].items():
            buffers[name].copy_(value)
    if online_probe is not None and state["online_probe"] is not None:
        online_probe.load_state_dict(state["online_probe"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_random"])
    return manifest


def _rank_state(learner: Learner, online_probe: OnlineProbe | None) -> dict[str, Any]:
    return {
        # DeepSpeed keeps rank 0's buffers only; batch-norm statistics and queues differ by rank.
        "buffers": {name: buffer.detach().cpu().clone() for name, buffer in learner.named_buffers()},
        "online_probe": None if online_probe is None else online_probe.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _publish(partial: Path, target: Path) -> None:
    for path in partial.rglob("*"):
        if path.is_file():
            _sync(path)
    if target.exists():
        shutil.rmtree(target)
    os.rename(partial, target)
    _sync(target.parent)


def _prune(folder: Path, keep: int) -> None:
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_encoder(checkpoint: Path) -> tuple[nn.Module, Recipe, Manifest]:
    """The pretrained encoder of a checkpoint folder (or of a run's arm folder: its newest), with its recipe.

    Raises CheckpointError.
    """
    from safetensors.torch import load_file

    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint}: no such folder; give a checkpoint (…/checkpoints/step_…) or a run's arm")
    if (checkpoint / "checkpoints").is_dir():
        found = latest_checkpoint(checkpoint / "checkpoints")
        if found is None:
            raise CheckpointError(f"{checkpoint}: no checkpoint was written here yet")
        checkpoint = found
    manifest = verify_checkpoint(checkpoint)
    recipe = Recipe.model_validate(manifest.recipe)
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    encoder.load_state_dict(load_file(checkpoint / ENCODER))
    return encoder, recipe, manifest
