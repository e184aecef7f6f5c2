"""The pretrained encoder of a checkpoint: what probes load."""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.find import resolve_checkpoint
from issl_engine.training.checkpoints.layout import ENCODER
from issl_engine.training.checkpoints.manifest import Manifest
from issl_engine.training.checkpoints.recipe import recipe_of
from issl_engine.training.checkpoints.verify import verify_checkpoint


def load_encoder(checkpoint: Path) -> tuple[nn.Module, Recipe, Manifest]:
    """The encoder of a checkpoint folder (or of a run's arm folder: its newest), with its recipe.

    Raises CheckpointError.
    """
    checkpoint = resolve_checkpoint(checkpoint, only={ENCODER})
    manifest = verify_checkpoint(checkpoint, only={ENCODER})
    recipe = recipe_of(checkpoint, manifest)
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    encoder.load_state_dict(load_file(checkpoint / ENCODER))
    return encoder, recipe, manifest
