"""One file with a checkpoint's weights, for use without the engine."""

import json
import os
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from issl_engine.training.checkpoints.find import resolve_checkpoint
from issl_engine.training.checkpoints.layout import ENCODER, LEARNER, STUDENT_PREFIX, TEACHER, TEACHER_PREFIX
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest
from issl_engine.training.checkpoints.tensor_file import TensorFile, write_tensor_file
from issl_engine.training.checkpoints.verify import verify_checkpoint
from issl_engine.whole_file import sync


def consolidate(path: Path, out: Path, *, encoder_only: bool = False) -> TensorFile:
    """Writes ``out``, a safetensors file: names begin with ``encoder.``, ``objective.`` (heads, prototypes) and
    ``teacher.``, or with ``encoder_only`` are the encoder's own. Its metadata says where the weights are from.

    ``path`` is a checkpoint, or an arm's folder (its newest). Raises CheckpointError; an existing file is left alone.
    """
    if out.exists():
        raise CheckpointError(f"{out}: a file is here already; choose another --out")
    parts = {ENCODER} if encoder_only else {ENCODER, TEACHER, LEARNER}
    checkpoint = resolve_checkpoint(path, only=parts)
    manifest = verify_checkpoint(checkpoint, only=parts)
    tensors = load_file(checkpoint / ENCODER)
    if not encoder_only:
        tensors = _prefixed(STUDENT_PREFIX, tensors) | load_file(checkpoint / LEARNER)
        if TEACHER in manifest.files:
            tensors |= _prefixed(TEACHER_PREFIX, load_file(checkpoint / TEACHER))
    content = TensorFile(tensors=tensors, metadata=_metadata(manifest))
    partial = out.with_name(f".{out.name}.partial")
    try:
        write_tensor_file(partial, content)
        os.rename(partial, out)
        sync(out.parent)
    except OSError as error:
        raise CheckpointError(f"{out}: the file could not be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return content


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _metadata(manifest: Manifest) -> dict[str, str]:
    """Text, as the format wants it: the recipe as JSON, and how far it had come."""
    recipe = manifest.recipe
    return {
        "format": "pt",
        "recipe_name": str(recipe["name"]),
        "objective": str(recipe["objective"]["name"]),
        "encoder": json.dumps(recipe["encoder"]),
        "seed": str(manifest.seed),
        "step": str(manifest.step),
        "epoch": f"{manifest.epoch:g}",
        "recipe": json.dumps(recipe),
        **{f"version_{name}": version for name, version in manifest.versions.items()},
    }
