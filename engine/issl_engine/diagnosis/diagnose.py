"""One frozen encoder, and where there is one its objective, measured on images that probes are judged on."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from issl_engine.diagnosis.measure import Diagnosis, measure_representation, measure_views
from issl_engine.diagnosis.objective_state import measure_objective
from issl_engine.diagnosis.view_features import view_features
from issl_engine.loading import EvaluationImages
from issl_engine.mistakes import Mistake
from issl_engine.probing.features.extract import extract_features
from issl_engine.probing.judging.splits import at_most, split_images
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe, no_teacher
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints.learner import load_learner
from issl_engine.training.checkpoints.manifest import read_manifest
from issl_engine.training.learner import Learner
from issl_engine.training.plan import make_plan


def diagnose(encoder: nn.Module, recipe: Recipe, dataset: Dataset, *, seed: int, device: torch.device) -> Diagnosis:
    """Measures of the representation, on the recipe's evaluation images and on its global views.

    Puts the encoder (on ``device``) in evaluation mode. Raises Mistake where diagnostics.after_images is null, for
    features that are NaN or infinite, and for an image that cannot be decoded.
    """
    config, evaluation, views = recipe.diagnostics, recipe.evaluation, recipe.views
    if config.after_images is None:
        raise Mistake("diagnostics.after_images is null, so there is nothing to measure; set it to a number")
    splits = split_images(dataset, evaluation, seed)
    images = at_most(splits.judged, config.after_images, seed)
    encoder.eval()
    batches = EvaluationImages(
        images,
        recipe.preprocessing,
        device=device,
        batch_size=evaluation.batch_size,
        num_threads=recipe.data.decode_threads,
    )
    features = extract_features(encoder, batches, device=device)
    z_NVD = view_features(
        encoder, images, views, num_views=config.after_views, batch_size=evaluation.batch_size, seed=seed,
        device=device, num_threads=recipe.data.decode_threads,
    )  # fmt: skip
    found = Diagnosis(
        split=splits.judged_split, num_images=len(features), num_views=z_NVD.shape[1], dim=features.x_ND.shape[1]
    )
    measure_representation(found, features.x_ND, features.labels_N)
    measure_views(found, z_NVD)
    return found


def diagnose_learner(learner: Learner, recipe: Recipe, dataset: Dataset, ranks: Ranks, *, seed: int) -> Diagnosis:
    """As ``diagnose``, of the network that the recipe's evaluation shows, and what the objective shows; the learner is
    on the ranks' device, and is used up by it."""
    found = diagnose(learner.network(recipe.evaluation.shown_network), recipe, dataset, seed=seed, device=ranks.device)
    alone = replace(ranks, rank=0, world_size=1, group=None)
    plan = make_plan(recipe, dataset, alone)
    judged = split_images(dataset, recipe.evaluation, seed).judged
    measure_objective(
        found, learner, at_most(judged, recipe.diagnostics.after_images, seed), recipe.views,
        batch_size=min(plan.loss_batch_size, recipe.evaluation.batch_size), progress=plan.progress(plan.total_steps),
        seed=seed, num_threads=recipe.data.decode_threads,
    )  # fmt: skip
    return found


DIAGNOSIS_KEYS = {"diagnostics", "evaluation", "data"}
"""Keys of a recipe that say how the representation is measured after training."""


def diagnose_checkpoint(
    checkpoint: Path, recipe: Recipe, dataset: Dataset, ranks: Ranks, *, seed: int | None = None
) -> Diagnosis:
    """Measures of a checkpoint's encoder and objective, on the images that ``recipe`` says; ``dataset`` is the one it
    was pretrained on, and the seed its own unless another is given. Raises CheckpointError, and as ``diagnose``."""
    learner, trained_with = load_learner(checkpoint, dataset, ranks)
    if recipe.evaluation.shown_network == "teacher" and learner.teacher is None:
        raise Mistake(no_teacher(trained_with))
    measured_with = trained_with.model_copy(update={key: getattr(recipe, key) for key in DIAGNOSIS_KEYS})
    own_seed = read_manifest(checkpoint).seed
    return diagnose_learner(learner, measured_with, dataset, ranks, seed=own_seed if seed is None else seed)
