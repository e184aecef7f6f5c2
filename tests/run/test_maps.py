"""Maps are made of test images, once, and never where the test split is not to be touched."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_engine.layout import FEATURE_MAP
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.report.feature_map import read_feature_map
from issl_engine.report.thumbnails import read_thumbnails
from issl_engine.run.kept import Kept
from issl_engine.run.maps import keep_map
from issl_engine.sources.base import Dataset, ImageSet

NUM_IMAGES = 60


def recipe(*overrides: str) -> Recipe:
    return load_recipe("smoke", ("evaluation.resize=16", "evaluation.crop=16", *overrides)).arms["simclr"]


def three_colours() -> Dataset:
    labels = np.arange(NUM_IMAGES, dtype=np.int64) % 3
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=np.uint8)
    pixels = np.array(np.broadcast_to(colours[labels][:, None, None, :], (NUM_IMAGES, 20, 20, 3)))
    images = ImageSet(labels=labels, sizes_HW=np.full((NUM_IMAGES, 2), 20, dtype=np.int32), pixels=pixels)
    return Dataset(name="tiny", classes=("a", "b", "c"), train=images, test=images)


class MeanColour(nn.Module):
    """What it makes of an image is its class."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class Maps:
    """Counts how often the encoder is asked for, which is when a map is made."""

    def __init__(self, folder: Path, encoder: nn.Module | None) -> None:
        self.folder, self.encoder, self.made = folder, encoder, 0

    def keep(self, *overrides: str, of: str = "weights") -> None:
        keep_map(
            Kept(self.folder / "arm"), Kept(self.folder), recipe(*overrides), of={"encoder": of}, encoder=self._take,
            dataset=three_colours(), seed=0, device=torch.device("cpu"),
        )  # fmt: skip

    def _take(self) -> nn.Module | None:
        self.made += 1
        return self.encoder


@pytest.mark.parametrize("encoder", [MeanColour(), None])
def test_neighbours_of_an_image_are_of_its_class(tmp_path: Path, encoder: nn.Module | None) -> None:
    maps = Maps(tmp_path, encoder)
    maps.keep()
    assert maps.made == 1
    found = read_feature_map(tmp_path / "arm" / FEATURE_MAP)
    assert found is not None
    labels = np.arange(NUM_IMAGES) % 3
    assert (labels[found.neighbours_MK] == labels[:, None]).all()
    assert read_thumbnails(tmp_path / found.sprite) is not None


def test_a_map_is_made_anew_when_it_is_torn_or_of_something_else(tmp_path: Path) -> None:
    maps, path = Maps(tmp_path, MeanColour()), tmp_path / "arm" / FEATURE_MAP
    maps.keep()
    maps.keep()
    assert maps.made == 1
    maps.keep(of="other weights")
    assert maps.made == 2
    maps.keep("evaluation.crop=12", of="other weights")
    assert maps.made == 3
    path.write_bytes(path.read_bytes()[:100])
    maps.keep("evaluation.crop=12", of="other weights")
    assert maps.made == 4
    assert read_feature_map(path) is not None


@pytest.mark.parametrize("ending", ["webp", "json"])
def test_thumbnails_are_made_anew_when_they_are_torn(tmp_path: Path, ending: str) -> None:
    maps = Maps(tmp_path, MeanColour())
    maps.keep()
    (torn,) = tmp_path.glob(f"thumbnails-*.{ending}")
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    maps.keep()
    assert torn.read_bytes() == whole
    assert maps.made == 1


def test_no_map_where_the_recipe_reports_on_held_out_images(tmp_path: Path) -> None:
    maps = Maps(tmp_path, MeanColour())
    maps.keep("evaluation.report_on=held_out")
    assert maps.made == 0
    assert list(tmp_path.iterdir()) == []
