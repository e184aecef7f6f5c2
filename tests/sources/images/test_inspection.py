"""data inspect: counts, sizes, corrupt files, images twice, channel means."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from issl_engine.cli import main
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.images import inspection
from issl_engine.sources.images.inspection import Inspection, inspect_dataset
from issl_engine.sources.images.picture import decode_image
from issl_engine.sources.images.repeated import THUMBNAIL, look_alikes, thumbnail


def picture(seed: int, side: int = 64) -> Image.Image:
    """Large soft patches of colour, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; one image twice in train, one again in val as a smaller JPEG of less quality, one file broken."""
    root = tmp_path / "photos"
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
    for seed in range(5):
        picture(seed).save(root / "train" / "cat" / f"{seed}.png")
    for seed in range(5, 8):
        picture(seed, 96).save(root / "train" / "dog" / f"{seed}.png")
    (root / "train" / "dog" / "copy.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
    (root / "train" / "dog" / "empty.png").touch()
    picture(3).resize((48, 48)).save(root / "val" / "cat" / "again.jpg", quality=60)
    picture(20).save(root / "val" / "dog" / "new.png")
    return root


def found_in(folder: Path) -> Inspection:
    return inspect_dataset(ImageFolderConfig(folder=folder).survey())


def test_counts_and_sizes_of_each_split(folder: Path) -> None:
    found = found_in(folder)
    train, val = found.splits["train"], found.splits["test"]
    assert (train.images, val.images) == (9, 2)
    assert train.images_of_classes == {"cat": 5, "dog": 4}
    assert (train.smallest_HW, train.median_HW, train.largest_HW) == ((64, 64), (64, 64), (96, 96))
    assert val.smallest_HW == (48, 48)


def test_corrupt_files_are_named(folder: Path) -> None:
    ((path, _),) = found_in(folder).corrupt
    assert path.endswith("empty.png")


def test_images_whose_pixels_are_broken_are_corrupt_too(folder: Path) -> None:
    place = folder / "train" / "cat" / "4.png"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the head and the end stay whole, so only decoding finds it
    place.write_bytes(content)
    assert any(path.endswith("4.png") for path, _ in found_in(folder).corrupt)


def test_the_same_bytes_and_look_alikes_are_distinguished(folder: Path) -> None:
    repeated = found_in(folder).repeated
    ((first, second),) = repeated.same_bytes
    assert {Path(first[1]).name, Path(second[1]).name} == {"0.png", "copy.png"}
    ((original, again),) = repeated.look_alike
    assert (original[0], Path(original[1]).name, again[0], Path(again[1]).name) == (
        "train",
        "3.png",
        "test",
        "again.jpg",
    )
    assert repeated.across_splits(repeated.look_alike) == 1
    assert repeated.across_splits(repeated.same_bytes) == 0


def test_channel_means_are_those_of_all_pixels(folder: Path) -> None:
    split = found_in(folder).splits["test"]
    each = [
        np.asarray(Image.open(path), dtype=np.float64).reshape(-1, 3) / 255
        for path in (folder / "val" / "cat" / "again.jpg", folder / "val" / "dog" / "new.png")
    ]
    mean = np.mean([pixels.mean(0) for pixels in each], axis=0)
    square = np.mean([np.square(pixels).mean(0) for pixels in each], axis=0)
    assert split.channel_mean == pytest.approx(tuple(mean), abs=1e-9)
    assert split.channel_std == pytest.approx(tuple(np.sqrt(square - mean**2)), abs=1e-9)
    assert split.sampled == 2


def test_each_image_is_decoded_once_and_progress_counts_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int | None] = []

    def counted(content: bytes, *, at_least: int | None = None) -> Image.Image:
        decoded.append(at_least)
        return decode_image(content, at_least=at_least)

    monkeypatch.setattr(inspection, "decode_image", counted)
    monkeypatch.setattr(inspection, "SAMPLE", 3)
    reported: list[tuple[int, int]] = []
    found = inspect_dataset(ImageFolderConfig(folder=folder).survey(), on_progress=lambda *now: reported.append(now))
    assert reported == [(number, 11) for number in range(1, 12)]
    assert len(decoded) == 11
    assert decoded.count(None) == 3 + 2  # three of train's nine and both of val's are decoded whole
    assert (found.splits["train"].sampled, found.splits["test"].sampled) == (3, 2)


def test_different_pictures_do_not_look_alike() -> None:
    assert look_alikes(np.stack([thumbnail(picture(seed)) for seed in range(300)])) == []


def test_copies_of_copies_are_one_group() -> None:
    small = np.stack([thumbnail(picture(seed % 4, 64 + 16 * (seed // 4))) for seed in range(12)])
    assert [group.tolist() for group in look_alikes(small)] == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_no_image_at_all_has_no_group() -> None:
    assert look_alikes(np.zeros((0, THUMBNAIL, THUMBNAIL), dtype=np.uint8)) == []


def test_command_prints_a_table_and_json(folder: Path) -> None:
    table = CliRunner().invoke(main, ["data", "inspect", str(folder)])
    assert table.exit_code == 0, table.output
    assert "2 of 2 classes: 4 (dog) to 5 (cat) images" in table.output
    assert "corrupt: 1 files" in table.output
    done = CliRunner().invoke(main, ["data", "inspect", str(folder), "--json"])
    assert json.loads(done.output)["splits"]["train"]["images"] == 9


def test_overrides_of_a_folder_are_refused(folder: Path) -> None:
    done = CliRunner().invoke(main, ["data", "inspect", str(folder), "source.folder=x"])
    assert done.exit_code == 2
    assert "a folder has no keys to override; name a recipe" in done.output
