"""Folders of images: the layout, corrupt files, sizes as decoded, splits that share no image, the index."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats import image_sizes
from issl_engine.sources.image_files import found
from issl_engine.sources.image_folder import ImageFolderConfig

pytestmark = pytest.mark.usefixtures("own_cache")


def save(path: Path, seed: int, size_HW: tuple[int, int] = (20, 30), orientation: int = 1, **settings: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_HW, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **settings)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with three training images and two validation images each."""
    seed = 0
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                save(tmp_path / "pets" / split / name / f"{index}.jpg", seed)
                seed += 1
    return tmp_path / "pets"


def names(paths: tuple[str, ...] | None) -> list[str]:
    assert paths is not None
    return ["/".join(Path(path).parts[-3:]) for path in paths]


def test_images_labels_and_sizes_are_read_in_order(folder: Path) -> None:
    save(folder / "train" / "dog" / "wide.PNG", 50, (16, 64))
    dataset = ImageFolderConfig(folder=folder).load()
    assert (dataset.name, dataset.classes, dataset.skipped) == ("pets", ("cat", "dog"), ())
    assert names(dataset.train.paths) == [
        *(f"train/{name}/{index}.jpg" for name in ("cat", "dog") for index in range(3)),
        "train/dog/wide.PNG",
    ]
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert dataset.train.sizes_HW.tolist() == [[20, 30]] * 6 + [[16, 64]]
    assert names(dataset.test.paths) == [f"val/{n}/{i}.jpg" for n in ("cat", "dog") for i in range(2)]
    assert all(Path(path).is_absolute() for path in dataset.train.paths or ())


def test_another_split_can_play_the_test_split(folder: Path) -> None:
    (folder / "val").rename(folder / "test")
    assert len(ImageFolderConfig(folder=folder, test_split="test").load().test) == 4
    with pytest.raises(SourceError, match="val: the folder is missing"):
        ImageFolderConfig(folder=folder).load()


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    """Two classes of 100 images without splits; one image is in both classes, and twice in one of them."""
    for name, first in (("cat", 0), ("dog", 100)):
        for index in range(100):
            save(tmp_path / "all" / name / f"{index}.jpg", first + index)
    for copy in ("dog/from_cat.jpg", "cat/again.jpg"):
        shutil.copy(tmp_path / "all" / "cat" / "7.jpg", tmp_path / "all" / copy)
    return tmp_path / "all"


def test_images_without_splits_are_split_by_content(unsplit: Path, tmp_path: Path) -> None:
    dataset = ImageFolderConfig(folder=unsplit, test_fraction=0.25).load()
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 202
    assert 30 <= len(dataset.test) <= 70
    for split in (dataset.train, dataset.test):
        there = {f"all/{copy}" in names(split.paths) for copy in ("cat/7.jpg", "cat/again.jpg", "dog/from_cat.jpg")}
        assert len(there) == 1, "copies of an image are in two splits"
    shutil.copytree(unsplit, tmp_path / "elsewhere" / "all")
    (tmp_path / "elsewhere" / "all" / "cat" / "3.jpg").rename(tmp_path / "elsewhere" / "all" / "cat" / "zebra.jpg")
    save(tmp_path / "elsewhere" / "all" / "dog" / "new.jpg", 999)
    moved = ImageFolderConfig(folder=tmp_path / "elsewhere" / "all", test_fraction=0.25).load()
    assert set(names(dataset.test.paths)) - {"all/cat/3.jpg"} <= set(names(moved.test.paths))
    assert set(names(dataset.train.paths)) - {"all/cat/3.jpg"} <= set(names(moved.train.paths))


def test_a_class_that_is_too_small_to_split_is_named(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"train/cat, test split: the class has no image"):
        ImageFolderConfig(folder=folder / "train", test_fraction=0.001).load()


@pytest.mark.parametrize(("key", "value"), [("manifest", "list.csv"), ("test_split", "test")])
def test_two_things_that_split_are_refused(key: str, value: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"test_fraction splits images that have no splits, and {key} names them"):
        ImageFolderConfig(folder=folder, test_fraction=0.2, **{key: value})


def test_what_is_no_image_is_not_looked_at(folder: Path) -> None:
    for name in ("readme.txt", "._0.jpg", ".hidden.png"):
        (folder / "train" / "cat" / name).write_text("no image")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "list.csv").write_text("no class")
    dataset = ImageFolderConfig(folder=folder, max_corrupt_files=0).load()
    assert (len(dataset.train), dataset.classes) == (6, ("cat", "dog"))


def test_images_in_subfolders_and_linked_classes_belong_to_their_class(folder: Path, tmp_path: Path) -> None:
    save(folder / "train" / "cat" / "more" / "a.jpg", 60)
    (folder / "train" / "dog").rename(tmp_path / "dogs")
    (folder / "train" / "dog").symlink_to(tmp_path / "dogs")
    dataset = ImageFolderConfig(folder=folder).load()
    assert dataset.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_sizes_are_those_of_the_decoded_image(suffix: str, orientation: int, tmp_path: Path) -> None:
    """EXIF orientations 5 to 8 turn the image when it is decoded; BMP has no EXIF."""
    save(tmp_path / f"x.{suffix}", 0, (20, 30), orientation)
    turned = orientation >= 5 and suffix != "bmp"
    path = str(tmp_path / f"x.{suffix}")
    assert image_sizes.read_size(path, os.path.getsize(path)) == ((30, 20) if turned else (20, 30))


def test_sizes_agree_with_dalis_decoder(tmp_path: Path) -> None:
    fn = pytest.importorskip("nvidia.dali.fn")
    pipeline = pytest.importorskip("nvidia.dali.pipeline")
    paths = []
    for suffix in ("jpg", "png", "webp", "tif", "bmp"):
        for orientation in (1, 3, 6, 8):
            paths.append(str(tmp_path / f"{orientation}.{suffix}"))
            save(Path(paths[-1]), 0, (20, 30), orientation)
    decoder = pipeline.Pipeline(batch_size=len(paths), num_threads=1, device_id=None)
    with decoder:
        encoded = fn.external_source(source=[[np.fromfile(path, np.uint8) for path in paths]], batch=True)
        decoder.set_outputs(fn.decoders.image(encoded))
    decoder.build()
    (decoded,) = decoder.run()
    for path, image in zip(paths, decoded, strict=True):
        assert np.asarray(image).shape[:2] == image_sizes.read_size(path, os.path.getsize(path)), path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.jpg")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_text("<html>"), "not an image"),
        (truncate, "truncated"),
        (dangle, "No such file"),
    ],
)
def test_a_corrupt_file_is_named_counted_and_left_out(
    damage: Callable[[Path], None], reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / "train" / "dog" / "1.jpg")
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        dataset = ImageFolderConfig(folder=folder, max_corrupt_files=1).load()
    assert names(dataset.train.paths) == [
        "train/cat/0.jpg",
        "train/cat/1.jpg",
        "train/cat/2.jpg",
        "train/dog/0.jpg",
        "train/dog/2.jpg",
    ]
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    (skipped,) = dataset.skipped
    assert skipped.path == folder / "train" / "dog" / "1.jpg"
    assert reason in skipped.reason
    (message,) = caplog.messages
    assert "left out 1 image files" in message
    assert "dog/1.jpg" in message


def test_one_corrupt_file_more_than_allowed_is_an_error(folder: Path) -> None:
    for split, name in (("train", "cat"), ("train", "dog"), ("val", "dog")):
        (folder / split / name / "0.jpg").write_bytes(b"")
    assert len(ImageFolderConfig(folder=folder, max_corrupt_files=3).load().skipped) == 3
    with pytest.raises(SourceError, match=r"3 image files cannot be read, more than .*\(2\); mend or remove .*cat/0"):
        ImageFolderConfig(folder=folder, max_corrupt_files=2).load()


def test_a_long_list_of_corrupt_files_is_cut(folder: Path) -> None:
    for index in range(25):
        (folder / "train" / "cat" / f"bad{index:02d}.jpg").write_bytes(b"x")
    with pytest.raises(SourceError) as error:
        ImageFolderConfig(folder=folder).load()
    assert "bad09.jpg" in str(error.value)
    assert "bad10.jpg" not in str(error.value)
    assert "and 15 more" in str(error.value)


def test_missing_parts_of_the_layout_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.folder: .*nowhere is not a folder"):
        ImageFolderConfig(folder=tmp_path / "nowhere").load()
    shutil.rmtree(folder / "val")
    with pytest.raises(SourceError, match="pets/val: the folder is missing"):
        ImageFolderConfig(folder=folder).load()
    (folder / "val").mkdir()
    with pytest.raises(SourceError, match="pets/val: there are no class folders"):
        ImageFolderConfig(folder=folder).load()
    shutil.rmtree(folder / "train")
    with pytest.raises(SourceError, match="pets/train: the folder is missing"):
        ImageFolderConfig(folder=folder).load()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_of_one_split_only_is_named(split: str, folder: Path) -> None:
    save(folder / split / "bird" / "0.jpg", 70)
    with pytest.raises(SourceError, match="only one of them has bird; add or remove"):
        ImageFolderConfig(folder=folder).load()


def test_a_class_without_readable_images_is_named(folder: Path) -> None:
    for path in (folder / "val" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SourceError, match="val/cat: none of its 2 image files can be read"):
        ImageFolderConfig(folder=folder).load()
    for path in (folder / "val" / "cat").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="val/cat: the class has no image"):
        ImageFolderConfig(folder=folder).load()


@pytest.mark.parametrize("how", [shutil.copy, os.link, os.symlink])
@pytest.mark.parametrize("compared_at_most", [20_000, 0])
def test_an_image_in_both_splits_is_an_error(
    how: Callable[[Path, Path], object], compared_at_most: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In large folders copies are not looked for, links are."""
    monkeypatch.setattr(found, "COMPARED_AT_MOST", compared_at_most)
    how(folder / "train" / "cat" / "0.jpg", folder / "val" / "dog" / "same.jpg")
    if how is shutil.copy and compared_at_most == 0:
        assert len(ImageFolderConfig(folder=folder).load().test) == 5
        return
    with pytest.raises(SourceError, match=r"val/dog/same\.jpg: the same image is in the training split, as .*cat/0"):
        ImageFolderConfig(folder=folder).load()


def test_headers_are_read_once(folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ImageFolderConfig(folder=folder).load()
    read: list[str] = []
    original = image_sizes.read_size

    def recorded(path: str, num_bytes: int) -> tuple[int, int] | str:
        read.append(path)
        return original(path, num_bytes)

    monkeypatch.setattr(image_sizes, "read_size", recorded)
    second = ImageFolderConfig(folder=folder).load()
    assert read == []
    assert second.train.paths == first.train.paths
    assert (second.train.sizes_HW == first.train.sizes_HW).all()
    changed = folder / "train" / "cat" / "1.jpg"
    save(changed, 80, (40, 24))
    third = ImageFolderConfig(folder=folder).load()
    assert read == [str(changed)]
    assert third.train.sizes_HW[1].tolist() == [40, 24]
    assert [path.suffix for path in (own_cache / "image-folders").iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": -1, "files": {}})])
def test_a_damaged_index_is_made_anew(content: str, folder: Path, own_cache: Path) -> None:
    first = ImageFolderConfig(folder=folder).load()
    (index,) = (own_cache / "image-folders").iterdir()
    whole = index.read_text()
    index.write_text(content)
    assert (ImageFolderConfig(folder=folder).load().train.sizes_HW == first.train.sizes_HW).all()
    assert json.loads(index.read_text()) == json.loads(whole)


def test_a_cache_that_cannot_be_written_is_a_warning(
    folder: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        assert len(ImageFolderConfig(folder=folder).load().train) == 6
    assert "cannot be kept" in caplog.text
