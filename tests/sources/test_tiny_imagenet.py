"""Tiny ImageNet's layout: classes, names, annotations, grey files, mistakes."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from issl_engine.sources.base import SourceError
from issl_engine.sources.tiny_imagenet import TinyImageNetConfig

WNIDS = ("n01443537", "n02058221", "n02124075")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes with two training images (one of them grey) and two validation images each."""
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for number, wnid in enumerate(WNIDS):
        for split in ("train", "val"):
            for index in range(2):
                name = f"{wnid}_{index}" if split == "train" else f"val_{2 * index + 10 * number}"
                place = root / "train" / wnid / "images" if split == "train" else root / "val" / "images"
                place.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (64, 64), (70 * number, 100 * index, 80 * (split == "val")))
                (image.convert("L") if index and split == "train" else image).save(place / f"{name}.JPEG")
                if split == "val":
                    lines.append(f"{name}.JPEG\t{wnid}\t0\t0\t62\t57\n")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (root / "test" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    words = ("goldfish, Carassius auratus", "bird", "bird, Egyptian cat")
    (root / "words.txt").write_text("".join(f"{wnid}\t{word}\n" for wnid, word in zip(WNIDS, words)) + "n99999999\tx\n")
    return root


def names(paths: tuple[str, ...] | None) -> list[str]:
    assert paths is not None
    return [Path(path).name for path in paths]


def test_the_published_layout_is_read(folder: Path) -> None:
    dataset = TinyImageNetConfig(folder=folder).load()
    assert dataset.classes == ("goldfish", "bird (n02058221)", "bird (n02124075)")
    assert names(dataset.train.paths) == [f"{wnid}_{index}.JPEG" for wnid in WNIDS for index in (0, 1)]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert names(dataset.test.paths) == [f"val_{number}.JPEG" for number in (0, 2, 10, 12, 20, 22)]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (dataset.train.sizes_HW == 64).all()


def test_files_without_annotation_are_not_taken_and_annotations_without_file_are_corrupt(folder: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(folder / "val" / "images" / "val_77.JPEG")
    (folder / "val" / "images" / "val_12.JPEG").unlink()
    dataset = TinyImageNetConfig(folder=folder).load()
    assert len(dataset.test) == 5
    assert [skipped.path.name for skipped in dataset.skipped] == ["val_12.JPEG"]
    with pytest.raises(SourceError, match=r"more than source\.max_corrupt_files \(0\)"):
        TinyImageNetConfig(folder=folder, max_corrupt_files=0).load()


@pytest.mark.parametrize("missing", ["train", "val/images", "val/val_annotations.txt", "words.txt"])
def test_a_missing_part_is_named_with_the_archive(missing: str, folder: Path) -> None:
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SourceError, match=rf"source\.folder: .*{missing} is missing; unpack http://cs231n"):
        TinyImageNetConfig(folder=folder).load()


def test_an_annotation_of_an_unknown_class_is_named_with_its_line(folder: Path) -> None:
    table = folder / "val" / "val_annotations.txt"
    table.write_text(table.read_text() + "val_99.JPEG\tn00000000\t0\t0\t1\t1\n")
    with pytest.raises(SourceError, match=r"val_annotations\.txt, line 7: 'n00000000' is no class folder of train/"):
        TinyImageNetConfig(folder=folder).load()


def test_a_class_without_a_word_is_named(folder: Path) -> None:
    (folder / "words.txt").write_text("n01443537\tgoldfish\n")
    with pytest.raises(SourceError, match=r"words\.txt: has no line for n02058221"):
        TinyImageNetConfig(folder=folder).load()
