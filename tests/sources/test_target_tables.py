"""What sources know of an image besides its class: shapes' nuisances, columns beside arrays."""

import colorsys
import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from issl_engine.sources.arrays import ArraysConfig
from issl_engine.sources.base import ImageSet, SourceError, TargetTable
from issl_engine.sources.shapes import ShapesConfig

SMALL: dict[str, Any] = {"num_train": 24, "num_test": 12, "num_classes": 4, "image_size": 32}


def column(table: TargetTable | None, name: str) -> np.ndarray:
    assert table is not None
    return table.values_NT[:, table.names.index(name)]


def test_shapes_values_are_what_was_drawn(tmp_path: Path) -> None:
    """Each image's row, found by its file's name, from the table as a person would read it."""
    dataset = ShapesConfig(**SMALL, folder=tmp_path / "made").load()
    with (tmp_path / "made" / "nuisances.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for images in (dataset.train, dataset.test):
        assert images.paths is not None
        for place, path in enumerate(images.paths):
            row = rows[str(Path(path).relative_to(tmp_path / "made"))]
            radii = [float(radius) for radius in row["radius"].split()]
            largest = radii.index(max(radii))
            turn = math.radians(float(row["rotation"].split()[largest]))
            red, green, blue = bytes.fromhex(row["colour"].split()[largest][1:])
            hue = 2 * math.pi * colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0]
            expected = {
                "x": float(row["x"].split()[largest]) / 32, "radius": max(radii) / 32, "rotation_sin": math.sin(turn),
                "rotation_cos": math.cos(turn), "hue_cos": math.cos(hue), "copies": float(row["copies"]),
                "noise": float(row["noise"]),
            }  # fmt: skip
            for name, value in expected.items():
                assert column(images.values, name)[place] == pytest.approx(value, abs=1e-5)
            textures = ("gradient", "stripes", "checks", "blobs")
            assert [name for name in textures if column(images.attributes, name)[place]] == [row["texture"]]
            assert column(images.attributes, "many_copies")[place] == (int(row["copies"]) >= 7)


def test_a_dark_background_is_seen_in_the_pixels(tmp_path: Path) -> None:
    """In the darkest and the brightest pixels, since the copies differ from the background on one side only."""
    dataset = ShapesConfig(**(SMALL | {"num_train": 60}), folder=tmp_path / "made").load()
    assert dataset.train.paths is not None
    value_N = column(dataset.train.values, "background_value")
    median_N = [np.median(np.asarray(Image.open(path).convert("L"))) for path in dataset.train.paths]
    assert np.corrcoef(value_N, median_N)[0, 1] > 0.3
    assert (column(dataset.train.attributes, "dark_background") == (value_N < 0.5)).all()


def test_a_subset_of_images_keeps_their_rows(tmp_path: Path) -> None:
    train = ShapesConfig(**SMALL, folder=tmp_path / "made").load().train
    assert train.values is not None
    part = train.subset(np.array([5, 2]))
    assert part.values is not None
    assert (part.values.values_NT == train.values.values_NT[[5, 2]]).all()
    assert part.attributes is not None
    assert len(part.attributes) == 2


def test_a_lost_or_shortened_table_of_shapes_is_reported(tmp_path: Path) -> None:
    config = ShapesConfig(**SMALL, folder=tmp_path / "made")
    config.load()
    table = tmp_path / "made" / "nuisances.csv"
    lines = table.read_text().splitlines(keepends=True)
    for content in ("".join(lines[:-1]), "".join(lines[:-1]) + "test/disc/0.jpg,test,disc\n", "x"):
        table.write_text(content)
        with pytest.raises(SourceError, match="to have it made anew"):
            config.load()
    table.unlink()
    with pytest.raises(SourceError, match="table of nuisances cannot be read; remove"):
        config.load()


def arrays(folder: Path, **changes: Any) -> ArraysConfig:
    random = np.random.default_rng(0)
    keys: dict[str, Any] = {}
    for split, count in (("train", 6), ("test", 4)):
        stored = {
            "images": random.integers(0, 255, (count, 4, 4, 3), dtype=np.uint8), "labels": np.arange(count) % 2,
            "values": random.normal(size=(count, 2)), "attributes": random.integers(0, 2, (count, 3), dtype=np.uint8),
        }  # fmt: skip
        for name, array in stored.items():
            np.save(folder / f"{split}_{name}.npy", changes.pop(f"{split}_{name}", array))
            keys[f"{split}_{name}"] = str(folder / f"{split}_{name}.npy")
    return ArraysConfig.model_validate(keys | changes)


def test_arrays_bring_their_columns(tmp_path: Path) -> None:
    values = np.array([[1, 2], [3, np.nan], [5, 6], [7, 8], [9, 10], [11, 12]])
    dataset = arrays(tmp_path, train_values=values, value_names=["depth", "angle"]).load()
    assert column(dataset.train.values, "depth").tolist() == [1, 3, 5, 7, 9, 11]
    assert np.isnan(column(dataset.train.values, "angle")[1])
    assert dataset.train.attributes is not None
    assert dataset.train.attributes.names == ("0", "1", "2")
    assert dataset.train.attributes.values_NT.dtype == np.float32
    assert dataset.test.values is not None
    assert len(dataset.test.values) == 4


def test_one_column_may_have_one_axis(tmp_path: Path) -> None:
    dataset = arrays(tmp_path, train_values=np.arange(6), test_values=np.arange(4)).load()
    assert dataset.train.values is not None
    assert dataset.train.values.values_NT.shape == (6, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_values": np.zeros((5, 2))}, "source.train_values: .* has 5 rows, but there are 6 images"),
        ({"train_values": np.zeros((6, 2, 2))}, r"source.train_values: .* shape \[6, 2, 2\], but it must hold numbers"),
        ({"train_values": np.array(["a"] * 6)}, "source.train_values: .* it must hold numbers"),
        ({"train_values": np.full((6, 2), np.inf)}, "source.train_values: .* infinite"),
        ({"test_values": np.zeros((4, 3))}, "source.test_values: .* has 3 columns, but the training images have 2"),
        ({"value_names": ["one"]}, "source.value_names: there are 1 names, but .* has 2 columns"),
    ],
)
def test_tables_that_fit_nothing_are_reported(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        arrays(tmp_path, **changes).load()


def test_a_table_of_one_split_alone_is_refused(tmp_path: Path) -> None:
    keys = arrays(tmp_path).model_dump()
    with pytest.raises(ValidationError, match="train_values is set, but test_values is not"):
        ArraysConfig.model_validate(keys | {"test_values": None})
    with pytest.raises(ValidationError, match="attribute_names is set, but train_attributes is not"):
        ArraysConfig.model_validate(
            keys | {"train_attributes": None, "test_attributes": None, "attribute_names": ("a",)}
        )


def test_a_table_has_a_row_for_every_image() -> None:
    table = TargetTable(names=("a",), values_NT=np.zeros((3, 1), dtype=np.float32))
    with pytest.raises(AssertionError):
        ImageSet(
            labels=np.zeros(2, dtype=np.int64), sizes_HW=np.ones((2, 2), dtype=np.int32),
            pixels=np.zeros((2, 1, 1, 3), dtype=np.uint8), values=table,
        )  # fmt: skip
