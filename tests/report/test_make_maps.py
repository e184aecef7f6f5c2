"""Maps are made of test images, once, and never where the test split is not to be touched."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.report.feature_map import read_feature_map
from issl_engine.report.make_maps import map_encoder, needs_map
from issl_engine.report.thumbnails import read_thumbnails

from .run_folders import NUM_IMAGES, tiny_dataset


def recipe(*overrides: str) -> Recipe:
    return load_recipe("smoke", ("evaluation.resize=16", "evaluation.crop=16", *overrides)).arms["simclr"]


class MeanColour(nn.Module):
    """What it makes of an image is its class."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize("encoder", [MeanColour(), None])
def test_neighbours_of_an_image_are_of_its_class(tmp_path: Path, encoder: nn.Module | None) -> None:
    path = tmp_path / "map.npz"
    assert needs_map(path, tmp_path, recipe(), made_of="x")
    map_encoder(
        path, tmp_path, recipe(), made_of="x", encoder=encoder, dataset=tiny_dataset(), device=torch.device("cpu")
    )
    found = read_feature_map(path)
    assert found is not None
    labels = np.arange(NUM_IMAGES) % 3
    assert (labels[found.neighbours_MK] == labels[:, None]).all()
    assert read_thumbnails(tmp_path / found.sprite) is not None


def test_a_map_is_made_anew_when_it_is_torn_or_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    map_encoder(
        path, tmp_path, recipe(), made_of="x", encoder=MeanColour(), dataset=tiny_dataset(), device=torch.device("cpu")
    )
    assert not needs_map(path, tmp_path, recipe(), made_of="x")
    assert needs_map(path, tmp_path, recipe(), made_of="other weights")
    (sprite,) = tmp_path.glob("thumbnails-*.webp")
    whole = sprite.read_bytes()
    sprite.write_bytes(whole[:100])
    assert needs_map(path, tmp_path, recipe(), made_of="x")
    sprite.write_bytes(whole)
    path.write_bytes(path.read_bytes()[:100])
    assert needs_map(path, tmp_path, recipe(), made_of="x")


def test_no_map_where_the_recipe_reports_on_held_out_images(tmp_path: Path) -> None:
    assert not needs_map(tmp_path / "map.npz", tmp_path, recipe("evaluation.report_on=held_out"), made_of="x")
