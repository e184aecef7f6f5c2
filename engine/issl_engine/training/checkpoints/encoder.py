"""The pretrained encoder of a checkpoint, or its EMA teacher's: what probes load."""

from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from issl_engine.probing.config import Network
from issl_engine.recipe.schema import Recipe, no_teacher
from issl_engine.training.checkpoints.find import resolve_checkpoint
from issl_engine.training.checkpoints.layout import ENCODER, LEARNER, TEACHER, TEACHER_PREFIX
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest, read_manifest
from issl_engine.training.checkpoints.recipe import recipe_of
from issl_engine.training.checkpoints.verify import verify_checkpoint


def load_encoder(checkpoint: Path, network: Network = "student") -> tuple[nn.Module, Recipe, Manifest]:
    """The encoder of a checkpoint folder (or of a run's arm folder: its newest), with its recipe; with ``network``
    teacher the EMA teacher's.

    Raises CheckpointError, also where there is no teacher.
    """
    checkpoint = resolve_checkpoint(checkpoint, only={ENCODER} if network == "student" else {TEACHER, LEARNER})
    name, prefix = file_of(network, read_manifest(checkpoint))
    manifest = verify_checkpoint(checkpoint, only={name})
    recipe = recipe_of(checkpoint, manifest)
    tensors = _tensors(checkpoint / name, prefix)
    if network == "teacher" and not tensors:
        raise CheckpointError(f"{checkpoint}: {no_teacher(recipe)}")
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    encoder.load_state_dict(tensors)
    return encoder, recipe, manifest


def file_of(network: Network, manifest: Manifest) -> tuple[str, str]:
    """The file that holds the encoder, and what the encoder's names begin with there. Earlier versions kept the
    teacher's with the heads."""
    if network == "student":
        return ENCODER, ""
    return (TEACHER, "") if TEACHER in manifest.files else (LEARNER, TEACHER_PREFIX)


def _tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    with safe_open(path, framework="pt", device="cpu") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (a file, not a mapping)
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
