"""image_list: the official lists of four data sets, in small copies of their archives, and what is said of mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from issl_engine.sources.base import SourceError
from issl_engine.sources.image_list import ImageListConfig

pytestmark = pytest.mark.usefixtures("own_cache")


def images(folder: Path, *names: str) -> None:
    """Files of different content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(list(folder.rglob("*.jpg")))).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


def food(folder: Path) -> dict[str, Any]:
    names = [f"{name}/{number}" for name in ("apple_pie", "ramen") for number in (1005649, 1014775, 26822)]
    images(folder, *(f"images/{name}.jpg" for name in names))
    write(folder, "meta/train.txt", *(name for name in names if not name.endswith("26822")))
    write(folder, "meta/test.txt", *(name for name in names if name.endswith("26822")))
    return {"train": ["meta/train.txt"], "test": ["meta/test.txt"], "path": "images/{name}.jpg", "label": "folder"}


def aircraft(folder: Path) -> dict[str, Any]:
    lines = ["1025794 707-320", "1340192 707-320", "0056978 Boeing 717", "1524664 Boeing 717"]
    images(folder, *(f"images/{line.split()[0]}.jpg" for line in lines))
    write(folder, "images_variant_trainval.txt", lines[0], lines[2])
    write(folder, "images_variant_test.txt", lines[1], lines[3])
    keys = {"train": ["images_variant_trainval.txt"], "test": ["images_variant_test.txt"]}
    return keys | {"path": "images/{name}.jpg", "label": "rest"}


def dtd(folder: Path) -> dict[str, Any]:
    names = [f"{name}/{name}_{number:04d}.jpg" for name in ("banded", "woven") for number in (2, 4, 5)]
    images(folder, *(f"images/{name}" for name in names))
    for place, split in enumerate(("train1", "val1", "test1")):
        write(folder, f"labels/{split}.txt", names[place], names[place + 3])
    return {
        "train": ["labels/train1.txt", "labels/val1.txt"], "test": ["labels/test1.txt"], "path": "images/{name}",
        "label": "folder",
    }  # fmt: skip


def pets(folder: Path) -> dict[str, Any]:
    names = [f"{name}_{number}" for name in ("Abyssinian", "american_bulldog") for number in (100, 101)]
    images(folder, *(f"images/{name}.jpg" for name in names))
    write(
        folder, "annotations/trainval.txt", "#Image CLASS-ID SPECIES BREED ID", f"{names[0]} 1 1 1", f"{names[2]} 2 2 1"
    )
    write(folder, "annotations/test.txt", f"{names[1]} 1 1 1", f"{names[3]} 2 2 1")
    keys = {"train": ["annotations/trainval.txt"], "test": ["annotations/test.txt"]}
    return keys | {"path": "images/{name}.jpg", "label": "prefix"}


LAYOUTS = {
    food: (("apple_pie", "ramen"), 4, 2), aircraft: (("707-320", "Boeing 717"), 2, 2), dtd: (("banded", "woven"), 4, 2),
    pets: (("Abyssinian", "american_bulldog"), 2, 2),
}  # fmt: skip
"""Archive → classes, images to train on, images to test."""


def config(folder: Path, keys: dict[str, Any]) -> ImageListConfig:
    return ImageListConfig.model_validate({"name": "image_list", "folder": folder} | keys)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_lists_are_read(layout: Any, tmp_path: Path) -> None:
    classes, num_train, num_test = LAYOUTS[layout]
    dataset = config(tmp_path, layout(tmp_path)).load()
    assert dataset.classes == classes
    assert (len(dataset.train), len(dataset.test)) == (num_train, num_test)
    assert dataset.train.paths is not None
    assert not set(dataset.train.paths) & set(dataset.test.paths or ())
    for path, label in zip(dataset.train.paths, dataset.train.labels, strict=True):
        if layout is not aircraft:
            assert classes[label] in path
    assert (np.bincount(dataset.test.labels) == num_test // 2).all()


def test_chosen_classes_in_their_order(tmp_path: Path) -> None:
    dataset = config(tmp_path, food(tmp_path) | {"classes": ["ramen"]}).load()
    assert (dataset.classes, len(dataset.train)) == (("ramen",), 2)


def refused(folder: Path, keys: dict[str, Any]) -> str:
    with pytest.raises(SourceError) as caught:
        config(folder, keys).load()
    return str(caught.value)


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    keys = food(tmp_path)
    assert "is not a folder" in refused(tmp_path / "none", keys)
    assert "source.train: " in refused(tmp_path, keys | {"train": ["meta/training.txt"]})
    assert "no {name}" in refused(tmp_path, keys | {"path": "images/1.jpg"})
    assert "tells no class by source.label prefix" in refused(tmp_path, keys | {"label": "prefix"})
    assert "train.txt, line 1" in refused(tmp_path, keys | {"label": "rest"})
    assert "lines name an image that another one names too" in refused(tmp_path, keys | {"test": ["meta/train.txt"]})
    write(tmp_path, "meta/empty.txt", "")
    assert "names no image" in refused(tmp_path, keys | {"test": ["meta/empty.txt"]})
    write(tmp_path, "meta/other.txt", "sushi/26822")
    assert "classes that the training split lacks: sushi" in refused(tmp_path, keys | {"test": ["meta/other.txt"]})
    with pytest.raises(ValidationError):
        config(tmp_path, keys | {"train": []})


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    keys = food(tmp_path)
    (tmp_path / "images/apple_pie/1005649.jpg").unlink()
    assert "1005649.jpg" in refused(tmp_path, keys | {"max_corrupt_files": 0})
