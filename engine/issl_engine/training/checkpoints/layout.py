"""The files of a checkpoint.

checkpoints/step_00000120/
    manifest.json                    step, recipe, versions, ranks; size and SHA-256 of every other file
    encoder.safetensors              the representation alone: what probes and users load
    teacher_encoder.safetensors      the EMA teacher's representation, by the encoder's names; where there is a teacher
    learner.safetensors              heads, prototypes, the teacher's head: all else that the learner holds
    online_probe.safetensors         the linear probe beside it, with its optimiser
    optimizer_rank0000.safetensors   the optimiser's state by parameter, the pieces that this rank held
    rank0000.safetensors             random numbers and buffers (batch-norm, queue) of this rank
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

ENCODER = "encoder.safetensors"
TEACHER = "teacher_encoder.safetensors"
LEARNER = "learner.safetensors"
ONLINE_PROBE = "online_probe.safetensors"

PARTIAL = ".partial_"
"""Begins the name of a checkpoint's folder while it is written."""
DISCARDED = ".discarded_"
"""Begins the name of a checkpoint's folder that is being deleted: a killed run leaves no torn checkpoint behind."""


STUDENT_PREFIX, TEACHER_PREFIX = "encoder.", "teacher.encoder."
"""Begin the names of the two networks' weights in the learner; their own files leave them out."""


def optimizer_name(rank: int) -> str:
    return f"optimizer_rank{rank:04d}.safetensors"


def rank_name(rank: int) -> str:
    return f"rank{rank:04d}.safetensors"


def part_of(name: str) -> str:
    """``optimizer_rank0001.safetensors`` → ``optimizer``: the files of all ranks are one part."""
    stem = name.removesuffix(".safetensors")
    return "ranks" if stem.startswith("rank") else stem.partition("_rank")[0]


def weight_files(names: Iterable[str]) -> set[str]:
    """Of a checkpoint's files those that the whole learner is read from: weights, and each rank's buffers."""
    return {name for name in names if part_of(name) in ("encoder", "teacher_encoder", "learner", "ranks")}


def is_left_over(path: Path) -> bool:
    """Whether the folder is one that a killed run left half written or half deleted."""
    return path.name.startswith((PARTIAL, DISCARDED))


def set_aside(checkpoint: Path) -> Path:
    """Renames a checkpoint to a name that is no checkpoint's; returns it. Raises OSError."""
    aside = checkpoint.with_name(DISCARDED + checkpoint.name)
    if aside.exists():
        shutil.rmtree(aside)
    return checkpoint.rename(aside)


def discard(checkpoint: Path) -> None:
    """Deletes a checkpoint: it is there whole or not at all. Raises OSError."""
    shutil.rmtree(set_aside(checkpoint))
