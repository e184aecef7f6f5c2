"""A folder of photographs, and where it is packed to."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from issl_engine.sources.base import Dataset
from issl_engine.sources.image_folder import ImageFolderConfig

from .packed_folders import save

SUFFIXES = {5: "png", 6: "webp"}
"""Of images that are no JPEG, by their number in the class."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; 24 training images of noise, some 80 kB each, some turned by EXIF, four no JPEG; 4 test images."""
    root, seed = tmp_path_factory.mktemp("made") / "photos", 0
    turned = Image.Exif()
    turned[0x0112] = 6
    for split, count in (("train", 12), ("val", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                path = root / split / label / f"{number:02d}.{SUFFIXES.get(number, 'jpg')}"
                save(path, seed, (200, 300), quality=95, **({"exif": turned} if number == 1 else {}))
                seed += 1
    return root


@pytest.fixture
def folder(photos: Path, tmp_path: Path, own_cache: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return ImageFolderConfig(folder=folder).load()
