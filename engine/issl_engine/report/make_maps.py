"""The feature map of a probed encoder, made once and kept in the run folder for the report."""

from pathlib import Path

import torch
from torch import nn

from issl_engine.loading import EvaluationImages
from issl_engine.probing.features.extract import extract_features
from issl_engine.recipe.schema import Recipe
from issl_engine.report.feature_map import (
    chosen_images,
    digest_of,
    make_feature_map,
    read_feature_map,
    write_feature_map,
)
from issl_engine.report.thumbnails import read_thumbnails, write_thumbnails
from issl_engine.sources.base import Dataset


def needs_map(path: Path, run: Path, recipe: Recipe, *, made_of: str) -> bool:
    """Whether there is no whole map at ``path`` that was made of the same, or no thumbnails to it.

    Never where the recipe reports on held-out images: the test split is then not to be touched.
    """
    if recipe.evaluation.report_on != "test":
        return False
    found = read_feature_map(path)
    return found is None or found.made_of != made_of or read_thumbnails(run / found.sprite) is None


def map_encoder(
    path: Path, run: Path, recipe: Recipe, *, made_of: str, encoder: nn.Module | None, dataset: Dataset,
    device: torch.device,
) -> None:  # fmt: skip
    """Writes the map of at most a thousand test images to ``path``, and their thumbnails into the run folder unless
    they are there; ``encoder`` None maps the raw pixels."""
    sprite = f"thumbnails-{digest_of(recipe.source.model_dump(mode='json'))}.webp"
    images_M = chosen_images(len(dataset.test))
    if read_thumbnails(run / sprite) is None:
        write_thumbnails(run / sprite, dataset, images_M)
    evaluation, views = recipe.evaluation, recipe.views
    batches = EvaluationImages(
        dataset.test.subset(images_M), resize=evaluation.resize, crop=evaluation.crop, mean=views.mean, std=views.std,
        device=device, batch_size=evaluation.batch_size, num_threads=recipe.data.decode_threads,
        interpolation=views.interpolation,
    )  # fmt: skip
    features = extract_features(encoder, batches, device=device)
    write_feature_map(path, make_feature_map(features.x_ND, made_of=made_of, sprite=sprite))
