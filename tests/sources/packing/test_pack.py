"""data pack: what the shards hold, the same bytes always, going on after a stop, verifying."""

import hashlib
import io
import json
import resource
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from issl_engine.sources.base import Dataset, ImageSet, SourceError
from issl_engine.sources.byte_ranges import ByteRanges, file_stamp
from issl_engine.sources.formats.image_kinds import DECODED
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.packing import packed_sample
from issl_engine.sources.packing.pack import PackSettings, pack_dataset
from issl_engine.sources.packing.reencode import Reencoding, Smaller
from issl_engine.sources.packing.shard_writer import PackedShard, ShardWriter
from issl_engine.sources.packing.verify import broken_shards
from issl_engine.sources.recognise import source_of_folder

from .packed_folders import SMALL, files, listed, save


def test_every_image_is_copied_with_label_and_size(dataset: Dataset, tmp_path: Path) -> None:
    packed = pack_dataset(dataset, tmp_path / "out", SMALL)
    for split, images in (("train", dataset.train), ("test", dataset.test)):
        expected = {
            images.stored_bytes(index): [int(images.labels[index]), *images.sizes_HW[index].tolist()]
            for index in range(len(images))
        }
        assert {content: rest for of, content, rest in listed(tmp_path / "out") if of == split} == expected
    assert packed.left_out == []
    assert len({shard["file"] for shard in packed.index["shards"] if shard["split"] == "train"}) > 1
    assert packed.index["classes"] == ["cat", "dog"]
    assert packed.index["name"] == "photos"


def test_shards_are_plain_tar_files_of_keys_with_image_and_label(dataset: Dataset, tmp_path: Path) -> None:
    pack_dataset(dataset, tmp_path / "out", SMALL)
    suffixes = set()
    for path in (tmp_path / "out").glob("train-*.tar"):
        samples = json.loads(path.with_suffix(".json").read_text())["samples"]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for image, cls, (key, start, length, label, *_) in zip(members[::2], members[1::2], samples, strict=True):
                assert (image.name.partition(".")[0], cls.name) == (key, f"{key}.cls")
                assert (image.offset_data, image.size) == (start, length)
                content = tar.extractfile(cls)
                assert content is not None
                assert content.read() == str(label).encode()
                suffixes.add(image.name.partition(".")[2])
                assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in (image, cls)} == {(0, 0, 0, 0o644, "")}
    assert suffixes == {"jpg", "png", "webp"}


def test_index_names_length_and_checksum_of_each_shard_and_no_shard_is_too_long(
    dataset: Dataset, tmp_path: Path
) -> None:
    index = pack_dataset(dataset, tmp_path / "out", SMALL).index
    assert index == json.loads((tmp_path / "out" / "index.json").read_text())
    for shard in index["shards"]:
        content = (tmp_path / "out" / shard["file"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert len(content) <= 2**20
        assert json.loads((tmp_path / "out" / shard["file"]).with_suffix(".json").read_text())["bytes"] == len(content)
    assert sum(shard["samples"] for shard in index["shards"]) == len(dataset.train) + len(dataset.test)


def test_an_image_longer_than_a_shard_is_a_shard_of_its_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 620, 620, 3), dtype=np.uint8)  # PNGs of noise: 1.1 MiB
    images = ImageSet.of_pixels(pixels, np.arange(2))
    index = pack_dataset(
        Dataset(name="large", classes=("a", "b"), train=images, test=images), tmp_path / "out", SMALL
    ).index
    assert [shard["samples"] for shard in index["shards"]] == [1, 1, 1, 1]


def test_shards_are_as_long_as_they_may_be(tmp_path: Path) -> None:
    """Tar files end at whole records of 10240 bytes, of which 102 fit into a MiB."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 16, 16, 3), dtype=np.uint8)
    images = ImageSet.of_pixels(pixels, np.zeros(500))
    index = pack_dataset(Dataset(name="small", classes=("a",), train=images, test=images), tmp_path, SMALL).index
    assert index["shards"][0]["bytes"] == 102 * 10240


def test_training_images_are_shuffled_by_the_seed_and_test_images_are_not(dataset: Dataset, tmp_path: Path) -> None:
    labels = {}
    for seed in (0, 1):
        pack_dataset(dataset, tmp_path / str(seed), replace(SMALL, seed=seed))
        found = list(listed(tmp_path / str(seed)))
        labels[seed] = [rest[0] for split, _, rest in found if split == "train"]
        assert [rest[0] for split, _, rest in found if split == "test"] == [0, 0, 1, 1]
    assert sorted(labels[0]) == sorted(labels[1]) == [0] * 12 + [1] * 12
    assert labels[0] != labels[1]
    assert 2 < sum(labels[0][:12]) < 10  # the first half is a mixture of both classes


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_stored_without_loss_and_images_without_class_have_no_label(channels: int, tmp_path: Path) -> None:
    def images(count: int, seed: int) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (count, 8, 12, channels), dtype=np.uint8)

    pretrain = ImageSet.of_pixels(images(5, 2), np.full(5, -1))
    dataset = Dataset(
        name="pixels", classes=("a", "b"), train=ImageSet.of_pixels(images(4, 0), np.array([0, 1, 0, 1])),
        test=ImageSet.of_pixels(images(2, 1), np.array([1, 0])), pretrain=pretrain,
    )  # fmt: skip
    pack_dataset(dataset, tmp_path, PackSettings())
    found = [
        (np.asarray(Image.open(io.BytesIO(content))), rest) for of, content, rest in listed(tmp_path) if of == "test"
    ]
    for index, (pixels, rest) in enumerate(found):
        assert np.array_equal(pixels.reshape(8, 12, channels), images(2, 1)[index])
        assert rest == [[1, 0][index], 8, 12]
    with tarfile.open(tmp_path / "pretrain-000000.tar") as tar:
        assert [name.partition(".")[2] for name in tar.getnames()] == ["png"] * 5
    assert {rest[0] for of, _, rest in listed(tmp_path) if of == "pretrain"} == {-1}


def test_every_kind_of_image_that_sources_let_through_has_a_suffix() -> None:
    assert set(packed_sample.SUFFIXES) == DECODED


def in_one_file(images: ImageSet, file: Path) -> ImageSet:
    """The same images, one after the other in ``file``."""
    contents = [images.stored_bytes(index) for index in range(len(images))]
    file.write_bytes(b"".join(contents))
    lengths = np.array([len(content) for content in contents], dtype=np.int64)
    ranges = ByteRanges(
        files=(str(file),), file_of=np.zeros(len(images), dtype=np.int32), starts=np.cumsum(lengths) - lengths,
        lengths=lengths, names=tuple(map(str, range(len(images)))), stamps=(file_stamp(str(file)),),
    )  # fmt: skip
    return replace(images, paths=None, ranges=ranges)


def test_images_inside_larger_files_are_packed_as_files_are(dataset: Dataset, tmp_path: Path) -> None:
    parts = {split: in_one_file(getattr(dataset, split), tmp_path / split) for split in ("train", "test")}
    pack_dataset(dataset, tmp_path / "files", SMALL)
    pack_dataset(replace(dataset, **parts), tmp_path / "parts", SMALL)
    of_files, of_parts = files(tmp_path / "files"), files(tmp_path / "parts")
    assert of_files.pop("pack.json") != of_parts.pop("pack.json")  # they were other sources
    assert of_files == of_parts
    ranges = parts["train"].ranges
    assert ranges is not None
    other = replace(parts["train"], ranges=replace(ranges, lengths=ranges.lengths - 1))
    with pytest.raises(SourceError, match="another source was packed here"):
        pack_dataset(replace(dataset, train=other, test=parts["test"]), tmp_path / "parts", SMALL)


def test_other_pixels_are_another_source(tmp_path: Path) -> None:
    images = ImageSet.of_pixels(np.zeros((3, 4, 4, 3), dtype=np.uint8), np.arange(3))
    dataset = Dataset(name="pixels", classes=("a", "b", "c"), train=images, test=images)
    pack_dataset(dataset, tmp_path, SMALL)
    assert images.pixels is not None
    images.pixels[2, 3, 3, 2] = 1
    with pytest.raises(SourceError, match="another source was packed here"):
        pack_dataset(dataset, tmp_path, SMALL)


def test_the_webdataset_source_reads_what_was_packed(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    pack_dataset(dataset, tmp_path / "out", SMALL)
    read = source_of_folder(tmp_path / "out").load()
    assert (read.name, read.classes) == (dataset.name, dataset.classes)
    for mine, its in ((dataset.train, read.train), (dataset.test, read.test)):
        assert its.ranges is not None
        places = [int(name.partition(".")[0].rpartition("-")[2]) for name in its.ranges.names]
        assert sorted(places) == list(range(len(mine)))
        assert [its.stored_bytes(index) for index in range(len(its))] == [mine.stored_bytes(place) for place in places]
        assert np.array_equal(its.labels, mine.labels[places])
        assert np.array_equal(its.sizes_HW, mine.sizes_HW[places])


def test_the_same_source_gives_the_same_bytes_wherever_it_lies(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    pack_dataset(dataset, tmp_path / "a", SMALL)
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "photos")
    pack_dataset(ImageFolderConfig(folder=moved).load(), tmp_path / "b", SMALL)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize(
    ("stop_after", "kind"),
    [(0, KeyboardInterrupt), (11, KeyboardInterrupt), (20, MemoryError), (25, KeyboardInterrupt)],
)
def test_a_stopped_pack_leaves_whole_shards_and_goes_on_to_the_same_bytes(
    stop_after: int, kind: type[BaseException], dataset: Dataset, tmp_path: Path
) -> None:
    pack_dataset(dataset, tmp_path / "whole", SMALL)

    def stop(done: int, total: int) -> None:
        if done > stop_after:
            raise kind

    out = tmp_path / "out"
    with pytest.raises(kind):
        pack_dataset(dataset, out, SMALL, on_progress=stop)
    left = files(out)
    assert "index.json" not in left
    assert [path.name for path in out.iterdir() if path.name[0] == "."] == [".lock"]
    whole = files(tmp_path / "whole")
    assert all(whole[name] == content for name, content in left.items() if name != "pack.json")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    reported: list[int] = []
    pack_dataset(dataset, out, SMALL, on_progress=lambda done, total: reported.append(done))
    assert files(out) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert reported[-1] == 28


def test_a_stop_between_a_shard_and_its_record_loses_nothing(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_dataset(dataset, tmp_path / "whole", SMALL)
    publish = ShardWriter.publish

    def publish_and_stop(self: ShardWriter) -> PackedShard:
        publish(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(ShardWriter, "publish", publish_and_stop)
    with pytest.raises(KeyboardInterrupt):
        pack_dataset(dataset, tmp_path / "out", SMALL)
    monkeypatch.undo()
    assert (tmp_path / "out" / "train-000000.tar").exists()
    pack_dataset(dataset, tmp_path / "out", SMALL)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_shard_that_is_gone_or_cut_is_written_again(dataset: Dataset, out: Path) -> None:
    pack_dataset(dataset, out, SMALL)
    whole = files(out)
    (out / "train-000001.tar").unlink()
    pack_dataset(dataset, out, SMALL)
    assert files(out) == whole
    (out / "test-000000.tar").write_bytes(b"cut")
    (out / "train-000000.json").write_text("{")
    pack_dataset(dataset, out, SMALL)
    assert files(out) == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PackSettings(shard_mib=2), r"other settings \(shard-mib 1 there and 2 here\); make them agree"),
        (PackSettings(shard_mib=1, seed=3), r"other settings \(seed 0 there and 3 here\)"),
        (
            PackSettings(shard_mib=1, reencoding=Reencoding(smaller=Smaller(shorter_side_px=64, quality=80))),
            r"max-side none there and 64 here, quality none there and 80 here",
        ),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    settings: PackSettings, message: str, dataset: Dataset, out: Path
) -> None:
    pack_dataset(dataset, out, SMALL)
    with pytest.raises(SourceError, match=message):
        pack_dataset(dataset, out, settings)


def test_a_source_that_changed_is_refused(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    pack_dataset(dataset, tmp_path / "out", SMALL)
    save(folder / "train" / "cat" / "more.jpg", 99, (10, 10))
    with pytest.raises(SourceError, match=r"out: another source was packed here, or this one has changed since"):
        pack_dataset(ImageFolderConfig(folder=folder).load(), tmp_path / "out", SMALL)


def test_a_folder_with_other_files_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(SourceError, match=r"the folder is not empty \(mine\.txt\) and no pack was begun in it"):
        pack_dataset(dataset, tmp_path / "out", SMALL)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As on a full disk: writing more raises OSError."""
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, earlier[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)


def test_a_full_disk_leaves_nothing_half_written(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with files_of_at_most(500_000), pytest.raises(SourceError, match=r"out: cannot be written \(File too large\)"):
        pack_dataset(dataset, out, SMALL)
    assert list(out.glob("*.tar")) == []
    assert list(out.glob(".*.partial")) == []
    pack_dataset(dataset, out, SMALL)
    assert broken_shards(out) == {}


def test_two_packs_in_one_folder_are_refused(dataset: Dataset, out: Path) -> None:
    def again(done: int, total: int) -> None:
        pack_dataset(dataset, out, SMALL)

    with pytest.raises(SourceError, match="another pack is at work in this folder"):
        pack_dataset(dataset, out, SMALL, on_progress=again)


def test_a_file_that_changed_since_the_scan_stops_with_its_name(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    save(folder / "val" / "cat" / "00.jpg", 5, (20, 20))
    with pytest.raises(SourceError, match=r"00\.jpg: the file is not as it was scanned \(JPEG of 20 x 20 px\)"):
        pack_dataset(dataset, tmp_path / "out", SMALL)


def test_corrupt_images_are_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "03.jpg").write_bytes(b"")
    packed = pack_dataset(ImageFolderConfig(folder=folder).load(), tmp_path / "out", SMALL)
    assert [(Path(one.name).name, one.reason) for one in packed.left_out] == [("03.jpg", "empty file")]
    assert sum(shard["samples"] for shard in packed.index["shards"]) == 27
