"""What the sources of shards share: the same batches as from files, patterns, classes, what is left out, the cache."""

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import TypeAdapter

from issl_engine import sources
from issl_engine.cli import main
from issl_engine.loading import EvaluationImages, TrainingViews
from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.byte_ranges import OpenFiles
from issl_engine.sources.formats import image_sizes
from issl_engine.sources.formats.sample import Sample
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.shards import base
from issl_engine.sources.shards.scans import ShardScans
from issl_engine.variants import one_of
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_engine.views.preprocessing import Preprocessing

FORMATS = ("webdataset", "tfrecord", "parquet")
COMMON: TypeAdapter[Any] = TypeAdapter(one_of(sources, SourceConfig))


def config(source: str, folder: Path, **keys: object) -> Any:
    return COMMON.validate_python({"name": source, "folder": folder, **keys})


@pytest.fixture
def images(shards: Any) -> dict[str, list[tuple[bytes, int]]]:
    """Two classes; JPEG and PNG, of several sizes, some turned by their EXIF data."""

    def some(count: int, seed: int) -> list[tuple[bytes, int]]:
        found = []
        for number in range(count):
            kind = "PNG" if number % 3 == 2 else "JPEG"
            size_HW, turn = (20 + number, 30), 6 if number % 4 == 1 else 1
            found.append((shards.encoded(seed + number, size_HW, kind, turn), number * 2 // count))
        return found

    return {"train": some(8, 0), "test": some(5, 100)}


@pytest.fixture(params=FORMATS)
def source(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(source: str, images: dict[str, list[tuple[bytes, int]]], shards: Any, tmp_path: Path) -> Path:
    """The training split in two shards, the test split in one."""
    place = tmp_path / "set"
    shards.shard(source, place / "train-000000", images["train"][:5])
    shards.shard(source, place / "train-000001", images["train"][5:])
    shards.shard(source, place / "test-000000", images["test"])
    return place


def as_files(images: dict[str, list[tuple[bytes, int]]], folder: Path) -> Dataset:
    for split, found in images.items():
        for number, (content, label) in enumerate(found):
            path = folder / split / str(label) / f"{number:04d}.{'png' if b'PNG' in content[:4] else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return ImageFolderConfig(folder=folder, test_split="test").load()


def batches(images: ImageSet) -> list[torch.Tensor]:
    """Two epochs of views, and all images for evaluation."""
    views = ViewsConfig(groups=(CropGroup(count=2, size=16),))
    device = torch.device("cpu")
    loader = TrainingViews(images, views, batch_size=4, rank=0, world_size=1, seed=3, device=device, num_threads=1)
    found = [tensor for batch in islice(loader, 4) for tensor in (*batch.crops, batch.ids, batch.labels)]
    loader.close()
    return found + [tensor for pair in evaluation(images) for tensor in pair]


def evaluation(images: ImageSet) -> EvaluationImages:
    return EvaluationImages(
        images,
        Preprocessing(resize=24, crop=16, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"),
        batch_size=3,
        device=torch.device("cpu"),
        num_threads=1,
    )


def test_views_and_evaluation_are_those_of_the_same_images_as_files(
    source: str, folder: Path, images: dict[str, list[tuple[bytes, int]]], tmp_path: Path
) -> None:
    found, files = config(source, folder).load(), as_files(images, tmp_path / "files")
    assert (found.name, found.classes, found.skipped) == ("set", files.classes, ())
    for split in ("train", "test"):
        ours, theirs = getattr(found, split), getattr(files, split)
        assert ours.sizes_HW.tolist() == theirs.sizes_HW.tolist()
        assert ours.labels.tolist() == theirs.labels.tolist() == [label for _, label in images[split]]
        assert [ours.stored_bytes(i) for i in range(len(ours))] == [content for content, _ in images[split]]
        assert [20, 30] in ours.sizes_HW.tolist()
        assert [30, 21] in ours.sizes_HW.tolist()  # upright
        for mine, other in zip(batches(ours), batches(theirs), strict=True):
            assert torch.equal(mine, other)


def equal(one: ImageSet, other: ImageSet) -> bool:
    assert one.ranges is not None
    assert other.ranges is not None
    arrays = [(one.labels, other.labels), (one.sizes_HW, other.sizes_HW)]
    arrays += [(getattr(one.ranges, key), getattr(other.ranges, key)) for key in ("file_of", "starts", "lengths")]
    plain = all(getattr(one.ranges, key) == getattr(other.ranges, key) for key in ("files", "names", "stamps"))
    return plain and all(np.array_equal(a, b) for a, b in arrays)


def test_a_second_load_reads_no_headers_and_gives_the_same(
    source: str,
    folder: Path,
    shards: Any,
    images: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        first = config(source, folder).load()
    assert "set: reading the headers of 3 files, once" in caplog.text
    caplog.clear()
    sizes: list[int] = []
    original = image_sizes.size_of_image
    monkeypatch.setattr(image_sizes, "size_of_image", lambda *both: sizes.append(1) or original(*both))
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        second = config(source, folder).load()
    assert (sizes, caplog.messages) == ([], [])
    assert equal(first.train, second.train)
    assert equal(first.test, second.test)
    shards.shard(source, folder / "train-000001", images["train"][5:7])  # written again: this file alone is read
    third = config(source, folder).load()
    assert (len(sizes), len(third.train)) == (2, 7)


def test_a_scan_of_another_format_is_not_used(folder: Path, source: str, tmp_path: Path) -> None:
    config(source, folder).load()
    for path in (tmp_path / "cache" / "shards").iterdir():
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "format": [0, 0], "names": ["old"] * len(content["names"])}))
    ranges = config(source, folder).load().train.ranges
    assert ranges is not None
    assert "old" not in ranges.names


def test_a_file_that_is_written_while_it_is_read_is_named(shards: Any, tmp_path: Path) -> None:
    path = tmp_path / "growing.tar"
    path.write_bytes(b"some")

    def read(path: Path) -> tuple[Path, list[Sample]]:
        path.write_bytes(path.read_bytes() + b"more")
        return path, []

    with pytest.raises(SourceError, match=r"growing\.tar: the file was written while it was read; start again when it"):
        ShardScans(tmp_path, "", read).scan([path])


def test_two_scans_at_the_same_time_share_the_work(shards: Any, tmp_path: Path) -> None:
    """As the ranks of a machine: what one scans, the other waits for and takes from the cache."""
    paths = [tmp_path / f"{number}.tar" for number in range(3)]
    for path in paths:
        path.write_bytes(b"some")
    read: list[Path] = []

    def slowly(path: Path) -> tuple[Path, list[Sample]]:
        read.append(path)
        time.sleep(0.1)
        return path, [Sample(name=path.name, reason="no image")]

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: ShardScans(tmp_path, "", slowly).scan(paths), range(2)))
    assert sorted(read) == paths
    assert (
        [shard.names for shard in found[0]]
        == [shard.names for shard in found[1]]
        == [("0.tar",), ("1.tar",), ("2.tar",)]
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 0}', '{"format": [1, 2], "source": [1, 2]}'])
def test_a_damaged_scan_is_made_anew(content: str, folder: Path, source: str, tmp_path: Path) -> None:
    first = config(source, folder).load()
    kept = sorted((tmp_path / "cache" / "shards").iterdir())
    assert [path.suffix for path in kept] == [".json"] * 3
    for path in kept:
        path.write_text(content)
    assert config(source, folder).load().train.labels.tolist() == first.train.labels.tolist()
    assert all(len(path.read_text()) > 100 for path in kept)


def test_damaged_images_are_named_counted_and_left_out(
    source: str, folder: Path, images: Any, shards: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoiled = [images["train"][0], (b"", 0), (b"<html>", 1), (images["train"][6][0][:-200], 1), images["train"][7]]
    path = shards.shard(source, folder / "train-000001", spoiled)
    dataset = config(source, folder, max_corrupt_files=3).load()
    assert dataset.train.labels.tolist() == [0, 0, 0, 0, 1, 0, 1]
    assert dataset.train.stored_bytes(6) == images["train"][7][0]
    assert [found.reason.split(": ")[1] for found in dataset.skipped] == ["empty file", "not an image", "truncated"]
    assert all(path.stem in str(found) for found in dataset.skipped)
    assert "left out 3 images that cannot be read" in caplog.text
    suffix = path.suffix
    assert len(config(source, folder, max_corrupt_files=3, pretrain=f"train-*{suffix}").load().skipped) == 3
    with pytest.raises(SourceError, match=r"set: 3 images cannot be read, more than source\.max_corrupt_files \(2\)"):
        config(source, folder, max_corrupt_files=2).load()
    assert len(config(source, folder, max_corrupt_files=0).survey().skipped) == 3


def test_samples_without_label_are_left_out_but_for_pretraining(
    source: str, folder: Path, images: Any, shards: Any
) -> None:
    unlabelled = [(content, None if number == 1 else label) for number, (content, label) in enumerate(images["train"])]
    shards.shard(source, folder / "more", unlabelled)
    suffix = next(folder.glob("more.*")).suffix
    dataset = config(source, folder, train=f"more{suffix}", pretrain=f"train-*{suffix}").load()
    assert len(dataset.train) == 7
    assert [found.reason.split(": ")[1] for found in dataset.skipped] == ["the sample has no label"]
    assert dataset.pretraining_images.labels.tolist() == [-1] * 8
    shards.shard(source, folder / "more", [(content, None) for content, _ in images["train"]])
    dataset = config(source, folder, pretrain=f"more{suffix}").load()
    assert (len(dataset.pretraining_images), dataset.skipped) == (8, ())
    with pytest.raises(SourceError, match="none of the 8 samples of the training split has a label"):
        config(source, folder, train=f"more{suffix}").load()


def test_labels_below_zero_are_none(source: str, folder: Path, images: Any, shards: Any) -> None:
    """As in the test splits that Hugging Face publishes for competitions."""
    shards.shard(source, folder / "test-000000", [(content, -1) for content, _ in images["test"]])
    with pytest.raises(
        SourceError, match=r"none of the 5 samples of the test split has a label \(.*; name the"
    ) as error:
        config(source, folder).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compared_at_most", [20_000, 0])
def test_an_image_in_both_splits_is_an_error_in_small_sets(
    source: str, folder: Path, images: Any, shards: Any, compared_at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "COMPARED_AT_MOST", compared_at_most)
    shards.shard(source, folder / "test-000000", [*images["test"], images["train"][3]])
    if compared_at_most == 0:
        assert len(config(source, folder).load().test) == 6
        return
    with pytest.raises(SourceError, match=r"test-000000.*: the same image is in the training split, as .*train-000000"):
        config(source, folder).load()
    assert len(config(source, folder).survey().test) == 6


@pytest.mark.parametrize("how", [os.link, os.symlink])
def test_a_file_in_both_splits_is_an_error(source: str, folder: Path, how: Callable[[Path, Path], None]) -> None:
    path = next(folder.glob("train-000000.*"))
    how(path, folder / f"test-000001{path.suffix}")
    with pytest.raises(
        SourceError, match=r"test-000001.*the file is in the test split, but also in the training split"
    ):
        config(source, folder).load()


def test_a_file_that_is_there_twice_is_an_error(source: str, folder: Path) -> None:
    path = next(folder.glob("train-000000.*"))
    (folder / f"train-000002{path.suffix}").symlink_to(path)
    with pytest.raises(SourceError, match=r"train-000002.*in the training split, but also in the training split, as"):
        config(source, folder).load()


def test_a_link_that_leads_nowhere_is_named(source: str, folder: Path) -> None:
    suffix = next(folder.glob("train-000000.*")).suffix
    (folder / f"train-000002{suffix}").symlink_to("nowhere")
    for read in (config(source, folder).load, config(source, folder).survey):
        with pytest.raises(
            SourceError, match=r"train-000002.*: (the|this Parquet) file cannot be read \(.*No such file"
        ):
            read()


def test_a_class_without_training_image_is_named(source: str, folder: Path, images: Any, shards: Any) -> None:
    shards.shard(source, folder / "test-000000", [*images["test"], (shards.encoded(77), 5)])
    with pytest.raises(SourceError, match="the training split has no image of class 5; add images, or name"):
        config(source, folder).load()
    assert config(source, folder).survey().classes == ("0", "1", "5")
    assert len(config(source, folder, classes=("1", "0")).load().test) == 5


def test_labels_that_are_numbers_are_ordered_by_value(source: str, folder: Path, images: Any, shards: Any) -> None:
    for path, split in (("train-000000", "train"), ("test-000000", "test")):
        shards.shard(source, folder / path, [(content, 10 - label) for content, label in images[split]])
    next(folder.glob("train-000001.*")).unlink()
    assert config(source, folder).load().classes == ("9", "10")


def test_a_list_of_classes_names_numbers_in_its_order(source: str, folder: Path, tmp_path: Path) -> None:
    assert config(source, folder, classes=("cat", "dog")).load().classes == ("cat", "dog")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    dataset = config(source, folder, classes=tmp_path / "names.txt").load()
    assert (dataset.classes, dataset.train.labels.tolist()) == (("cat", "dog"), [0] * 4 + [1] * 4)
    with pytest.raises(SourceError, match=r"label 1, which is no place in source\.classes, which has 1 \(0 to 0\)"):
        config(source, folder, classes=("cat",)).load()


def test_labels_may_be_names_and_a_list_chooses_and_orders_them(
    source: str, folder: Path, images: Any, shards: Any
) -> None:
    for path, split in (("train-000000", "train"), ("test-000000", "test")):
        named = [(content, ("dog", "cat", "ant")[number % 3]) for number, (content, _) in enumerate(images[split])]
        shards.shard(source, folder / path, named)
    next(folder.glob("train-000001.*")).unlink()
    dataset = config(source, folder).load()
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.train.labels.tolist() == [2, 1, 0, 2, 1, 0, 2, 1]
    chosen = config(source, folder, classes=("dog", "ant")).load()
    assert chosen.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert chosen.skipped == ()


def test_patterns_choose_files(source: str, folder: Path) -> None:
    suffix = next(folder.glob("train-000000.*")).suffix

    def sizes(**keys: str) -> tuple[int, int]:
        dataset = config(source, folder, **keys).survey()
        return len(dataset.train), len(dataset.test)

    assert sizes(train=f"train-{{000000..000001}}{suffix}") == (8, 5)
    assert sizes(train=f"train-00000[1]{suffix}") == (3, 5)
    assert sizes(train=f"{{train-000001,train-000000}}{suffix}", test=f"te*{suffix}") == (8, 5)
    (folder / "deep" / "er").mkdir(parents=True)
    for path in folder.glob("t*-*"):
        path.rename(folder / "deep" / "er" / path.name)
    assert sizes() == (8, 5)
    assert sizes(train=f"deep/*/train-*{suffix}", test=f"**/test-*{suffix}") == (8, 5)
    assert sizes(train=str(folder / "deep" / "er" / f"train-*0{suffix}")) == (5, 5)
    missing = rf"source\.train: .*set has no file deep/er/train-000002\{suffix}, deep/er/train-000003\{suffix}; correct"
    with pytest.raises(SourceError, match=missing):
        config(source, folder, train=f"deep/er/train-{{000000..000003}}{suffix}").load()
    (folder / f"train-x{suffix}").mkdir()
    assert sizes(train=f"**/train-*{suffix}") == (8, 5)
    folder.rename(folder.parent / "a [b]")
    renamed = config(source, folder.parent / "a [b]", train=f"deep/er/train-*{suffix}").survey()
    assert len(renamed.train) == 8
    (folder.parent / "a [b]").rename(folder)
    with pytest.raises(SourceError, match=r"source\.test: .*set has no file x\*; correct the pattern"):
        config(source, folder, test="x*").load()


def test_words_in_names_distinguish_splits_and_validation_comes_before_test(source: str, folder: Path) -> None:
    suffix = next(folder.glob("train-000000.*")).suffix
    (folder / f"train-000001{suffix}").rename(folder / f"pretrain-000000{suffix}")
    assert len(config(source, folder).load().train) == 5
    (folder / f"pretrain-000000{suffix}").rename(folder / f"imagenet1k-validation-07{suffix}")
    assert len(config(source, folder).load().test) == 3
    (folder / "Train").mkdir()
    (folder / f"train-000000{suffix}").rename(folder / "Train" / f"0000{suffix}")
    (folder / "Train" / f"0000{suffix}").rename(folder / "Train" / f"train-000000{suffix}")
    (folder / f"imagenet1k-validation-07{suffix}").rename(folder / "Train" / f"val{suffix}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / f"train-000009{suffix}").write_text("no shard")
    dataset = config(source, folder).load()
    assert (len(dataset.train), len(dataset.test)) == (5, 3)


def test_files_that_are_missing_by_their_numbers_are_named(source: str, folder: Path) -> None:
    for path in folder.iterdir():
        path.rename(
            folder / path.name.replace("train-000000", "train-00001-of-00004").replace("-000001.", "-00003-of-00004.")
        )
    with pytest.raises(SourceError, match=r"train-00000-of-00004.*: the file is missing \(2 of 4 are: 00000-of-00004"):
        config(source, folder).load()
    assert len(config(source, folder, train="train-*-of-*").load().train) == 8  # what was asked for by name is taken


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_files_is_named(source: str, folder: Path, split: str, tmp_path: Path) -> None:
    for path in folder.glob(f"{split}-*"):
        path.unlink()
    with pytest.raises(SourceError, match=rf"set: no file here has .*; name its files in source\.{split}$"):
        config(source, folder).load()
    with pytest.raises(SourceError, match=r"source\.folder: .*nowhere is not a folder"):
        config(source, tmp_path / "nowhere").load()


def test_a_split_without_readable_image_is_named(source: str, folder: Path, shards: Any) -> None:
    shards.shard(source, folder / "test-000000", [(b"x", 0), (b"y", 1)])
    with pytest.raises(SourceError, match="the test split has no image that can be read"):
        config(source, folder).load()
    shards.shard(source, folder / "test-000000", [(shards.encoded(90), 0)])
    path = shards.shard(source, folder / "more", [(b"x", 0), (b"y", 1)])
    with pytest.raises(SourceError, match="the pretraining split has no image that can be read"):
        config(source, folder, pretrain=path.name).load()


@pytest.mark.parametrize("source", ["webdataset", "tfrecord"], indirect=True)
def test_a_shard_changed_during_a_run_stops_it_with_its_name(
    source: str, folder: Path, images: Any, shards: Any
) -> None:
    path = next(folder.glob("train-000000.*"))
    whole = path.read_bytes()
    changes = (
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: shards.shard(source, folder / "train-000000", images["test"]),
        path.unlink,
    )
    dataset = config(source, folder).load()
    for change in changes:
        fresh = dataset.train.subset(np.arange(len(dataset.train)))
        object.__setattr__(fresh.ranges, "_open", OpenFiles())  # a process that has not opened the file yet
        change()
        with pytest.raises(
            ValueError, match=r"train-000000.* \(the file .*the folder changed during the run"
        ) as caught:
            batches(fresh)
        assert str(caught.value).count("train-000000") == 1
        with pytest.raises(ValueError, match=r"train-000000.* \(the file .*the folder changed during the run"):
            list(evaluation(fresh))


def test_a_cache_that_cannot_be_written_is_one_warning(
    folder: Path, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    if source == "parquet":
        with pytest.raises(SourceError, match=r"cannot be written .*set ISSL_ENGINE_CACHE to a folder with room"):
            config(source, folder).load()
        return
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        assert len(config(source, folder).load().train) == 8
    assert len(caplog.messages) == 1
    assert "cannot be kept" in caplog.text


def test_inspect_looks_at_them_and_list_shows_them(source: str, folder: Path, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[3] / "recipes" / "swav_compare.yaml"
    assert source in CliRunner().invoke(main, ["list", "sources"]).stdout
    text = recipe.read_text(encoding="utf-8")
    start = text.index("source:")
    end = start + text[start:].index("\nviews:")
    (tmp_path / "mine.yaml").write_text(f"{text[:start]}source: {{name: {source}, folder: {folder}}}{text[end:]}")
    result = CliRunner().invoke(main, ["data", "inspect", str(tmp_path / "mine.yaml")])
    assert result.exit_code == 0, result.output
    assert "set" in result.stdout
