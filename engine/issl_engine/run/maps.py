"""The feature map of a probed encoder, and the thumbnails that it shows: made once, for the report."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from issl_engine.layout import FEATURE_MAP
from issl_engine.loading import EvaluationImages
from issl_engine.probing.features.extract import extract_features
from issl_engine.recipe.schema import Recipe
from issl_engine.report.feature_map import chosen_images, make_feature_map, write_feature_map
from issl_engine.report.thumbnails import write_captions, write_sprite
from issl_engine.run.dataset import content_of
from issl_engine.run.kept import Kept
from issl_engine.run.made_of import measured_by
from issl_engine.sources.base import Dataset


def keep_map(
    folder: Kept, run: Kept, recipe: Recipe, *, of: Mapping[str, object], encoder: Callable[[], nn.Module | None],
    dataset: Dataset, seed: int, device: torch.device,
) -> None:  # fmt: skip
    """Keeps the map of at most a thousand test images in ``folder`` and their thumbnails in ``run``.

    ``of`` says which encoder it is; ``encoder`` gives it on ``device``, or None for the raw pixels. Makes none where
    the recipe reports on held-out images: the test split is then not to be touched.
    """
    if recipe.evaluation.report_on != "test":
        return
    images = {"images": content_of(dataset)}
    sprite = f"thumbnails-{content_of(dataset)[:12]}.webp"
    images_M = chosen_images(len(dataset.test))
    run.file(sprite, images, lambda path: write_sprite(path, dataset, images_M))
    run.file(str(Path(sprite).with_suffix(".json")), images, lambda path: write_captions(path, dataset, images_M))

    def write(path: Path) -> None:
        batches = EvaluationImages(
            dataset.test.subset(images_M),
            recipe.preprocessing,
            device=device,
            batch_size=recipe.evaluation.batch_size,
            num_threads=recipe.data.decode_threads,
        )
        features = extract_features(encoder(), batches, device=device)
        write_feature_map(path, make_feature_map(features.x_ND, sprite=sprite))

    folder.file(FEATURE_MAP, measured_by(recipe, dataset, seed) | {"encoder": of}, write)
