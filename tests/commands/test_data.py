"""The commands that make and fetch data."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.commands.data import shapes
from issl_engine.sources.shapes import ShapesConfig


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_shapes_are_made_as_the_source_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    numbers = ["--num-train", "12", "--num-test", "6", "--num-classes", "3", "--image-size", "32"]
    result = call("data", "make", "shapes", "--folder", str(folder), *numbers)
    assert (result.exit_code, result.stdout) == (0, f"{folder}\n")
    dataset = ShapesConfig(folder=folder, num_train=12, num_test=6, num_classes=3, image_size=32).load()
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (12, 6, 3)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = call("data", "make", "shapes", "--folder", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path}: the folder is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("option", ["--num-classes", "--image-size", "--num-train"])
def test_a_number_out_of_range_names_its_option(option: str, tmp_path: Path) -> None:
    result = call("data", "make", "shapes", "--folder", str(tmp_path / "x"), option, "1")
    assert result.exit_code == 2
    assert f"Error: {option}: " in result.stderr


def test_the_options_defaults_are_the_sources() -> None:
    defaults = {option.name: option.default for option in shapes.params if isinstance(option, click.Option)}
    assert {name: value for name, value in defaults.items() if name != "folder"} == ShapesConfig().model_dump(
        exclude={"name", "folder"}
    )


def test_files_that_are_not_fashion_mnist_are_refused(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (origin / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_bytes(b"no")
    result = call("data", "fetch", "fashion-mnist", "--folder", str(tmp_path / "to"), "--origin", str(origin))
    assert result.exit_code == 1
    assert "checksum is wrong" in result.stderr
    assert result.stdout == ""
