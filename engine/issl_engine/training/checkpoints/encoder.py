"""The pretrained encoder of a checkpoint: what probes load."""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.layout import ENCODER
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest
from issl_engine.training.checkpoints.verify import latest_checkpoint, verify_checkpoint


def load_encoder(checkpoint: Path) -> tuple[nn.Module, Recipe, Manifest]:
    """The encoder of a checkpoint folder (or of a run's arm folder: its newest), with its recipe.

    Raises CheckpointError.
    """
    checkpoint = resolve_checkpoint(checkpoint)
    manifest = verify_checkpoint(checkpoint)
    recipe = Recipe.model_validate(manifest.recipe)
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    encoder.load_state_dict(load_file(checkpoint / ENCODER))
    return encoder, recipe, manifest


def resolve_checkpoint(path: Path) -> Path:
    """A checkpoint folder as it is; of a run's arm folder its newest whole checkpoint. Raises CheckpointError."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give a checkpoint (…/checkpoints/step_…) or a run's arm")
    if not (path / "checkpoints").is_dir():
        return path
    found = latest_checkpoint(path / "checkpoints")
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint was written here yet")
    return found
