"""The whole learner of a checkpoint (encoder, heads, EMA teacher, queues), on one process: what diagnostics look at."""

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_learner
from issl_engine.training.checkpoints.layout import weight_files
from issl_engine.training.checkpoints.manifest import CheckpointError, read_manifest
from issl_engine.training.checkpoints.recipe import recipe_of
from issl_engine.training.checkpoints.restore import restore_learner
from issl_engine.training.checkpoints.verify import verify_checkpoint
from issl_engine.training.learner import Learner
from issl_engine.training.plan import make_plan


def load_learner(checkpoint: Path, dataset: Dataset, ranks: Ranks) -> tuple[Learner, Recipe]:
    """On the rank's device, as it was saved, whatever the number of ranks that saved it; with its recipe.

    ``dataset``: the one it was pretrained on. Raises CheckpointError.
    """
    read = weight_files(read_manifest(checkpoint).files)
    manifest = verify_checkpoint(checkpoint, only=read)
    recipe = recipe_of(checkpoint, manifest)
    alone = replace(ranks, rank=0, world_size=1, group=None)
    learner = build_learner(recipe, make_plan(recipe, dataset, alone), alone, manifest.seed)
    try:
        restore_learner(checkpoint, learner, manifest, alone)
    except (SafetensorError, KeyError, OSError) as error:
        raise CheckpointError(f"{checkpoint}: the state cannot be read ({error})") from error
    return learner, recipe
