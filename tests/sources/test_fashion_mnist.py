"""IDX files packed or not, their checksums, the balanced subset, fetching."""

import gzip
import hashlib
import http.client
import io
import struct
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from issl_engine.sources import fashion_mnist
from issl_engine.sources.balanced_subset import balanced_subset
from issl_engine.sources.base import SourceError
from issl_engine.sources.fashion_mnist import (
    DEBIAN_FOLDER,
    SHA256,
    FashionMNISTConfig,
    fetch_fashion_mnist,
)
from issl_engine.sources.formats.idx import parse_idx


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays() -> dict[str, NDArray[np.uint8]]:
    """A small stand-in for the dataset: 60 and 20 images."""
    random = np.random.default_rng(0)
    found = {}
    for split, count in (("train", 60), ("t10k", 20)):
        found[f"{split}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        found[f"{split}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
    return found


@pytest.fixture(autouse=True)
def places(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's checksums in place of the dataset's; no network; nothing of this machine is seen."""

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    digests = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in arrays().items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


def write(folder: Path, *, packed: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays().items():
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_packed_and_plain_files_give_the_pixels(packed: bool, tmp_path: Path) -> None:
    dataset = FashionMNISTConfig(folder=write(tmp_path / "files", packed=packed)).load()
    expected = arrays()
    for images, split, count in ((dataset.train, "train", 60), (dataset.test, "t10k", 20)):
        assert images.pixels is not None
        assert images.pixels.shape == (count, 28, 28, 1)
        assert (images.pixels[..., 0] == expected[f"{split}-images-idx3-ubyte"]).all()
        assert (images.labels == expected[f"{split}-labels-idx1-ubyte"]).all()
        assert images.labels.dtype == np.int64
        assert (images.sizes_HW == 28).all()


def test_the_cache_goes_before_debians_folder(tmp_path: Path) -> None:
    write(tmp_path / "debian", packed=True)
    assert FashionMNISTConfig()._find() == tmp_path / "debian"
    write(tmp_path / "cache" / "fashion-mnist", packed=False)
    assert FashionMNISTConfig()._find() == tmp_path / "cache" / "fashion-mnist"


def test_a_named_folder_is_the_only_place_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "debian", packed=True)
    with pytest.raises(SourceError, match=r"elsewhere; run 'issl-engine data fetch fashion-mnist'"):
        FashionMNISTConfig(folder=tmp_path / "elsewhere").load()


def test_one_missing_file_of_four_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path / "files", packed=True)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SourceError, match="are not all in"):
        FashionMNISTConfig(folder=folder).load()


def test_a_single_wrong_pixel_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "files", packed=False)
    path = folder / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="train-images-idx3-ubyte: the content's checksum is wrong"):
        FashionMNISTConfig(folder=folder).load()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-100], "cannot be unpacked"),
        (lambda c: c[:40] + bytes(40) + c[80:], "cannot be unpacked"),
        (lambda c: b"<html>not found</html>", "this is no IDX file"),
        (lambda c: b"", "this is no IDX file"),
    ],
)
def test_a_damaged_packed_file_is_named(damage: object, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "files", packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SourceError, match=rf"train-images-idx3-ubyte\.gz: .*{message}"):
        FashionMNISTConfig(folder=folder).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08", "no IDX file of unsigned bytes"),
        (b"\0\x01\x08\x01" + bytes(4), "no IDX file of unsigned bytes"),
        (b"\0\0\x0d\x01" + bytes(4), "no IDX file of unsigned bytes"),
        (b"\0\0\x08\x03" + bytes(8), "ends within its header"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "17 bytes, its header says 18"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "19 bytes, its header says 18"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "its header says"),
    ],
)
def test_idx_errors_say_what_is_wrong_in_which_file(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=rf"^x/images: .*{message}"):
        parse_idx(content, Path("x/images"))


def test_idx_arrays_come_back_in_shape() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert (parse_idx(idx(array), Path("x")) == array).all()


@pytest.mark.parametrize("count", [10, 35, 60])
def test_a_subset_is_balanced_over_the_classes(count: int, tmp_path: Path) -> None:
    folder = write(tmp_path / "files", packed=False)
    whole = FashionMNISTConfig(folder=folder).load()
    part = FashionMNISTConfig(folder=folder, max_train_images=count).load()
    sizes = Counter(part.train.labels.tolist()).values()
    assert len(part.train) == count
    assert len(sizes) == 10
    assert max(sizes) - min(sizes) <= 1
    assert len(part.test) == len(whole.test)
    assert part.train.pixels is not None
    assert whole.train.pixels is not None
    known = {image.tobytes(): label for image, label in zip(whole.train.pixels, whole.train.labels)}
    assert all(known[image.tobytes()] == label for image, label in zip(part.train.pixels, part.train.labels))


def test_a_subset_depends_on_its_seed_alone() -> None:
    labels = np.random.default_rng(1).integers(0, 10, 500)
    first, again, other = (balanced_subset(labels, 100, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    assert set(first.tolist()) < set(balanced_subset(labels, 200, 0).tolist())


def test_fetching_copies_checks_and_unpacks(tmp_path: Path) -> None:
    origin = write(tmp_path / "origin", packed=True)
    target = fetch_fashion_mnist(tmp_path / "to", origin=origin)
    assert {path.name for path in target.iterdir()} == set(fashion_mnist.SHA256)
    assert len(FashionMNISTConfig(folder=target).load().train) == 60


def test_fetching_into_the_cache_is_what_the_source_finds(tmp_path: Path) -> None:
    write(tmp_path / "debian", packed=True)
    assert fetch_fashion_mnist() == tmp_path / "cache" / "fashion-mnist" == FashionMNISTConfig()._find()


def test_fetching_again_mends_what_is_wrong_and_leaves_the_rest(tmp_path: Path) -> None:
    origin = write(tmp_path / "origin", packed=False)
    target = fetch_fashion_mnist(tmp_path / "to", origin=origin)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    (target / "train-labels-idx1-ubyte").write_bytes(b"broken")
    fetch_fashion_mnist(target, origin=origin)
    after = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"train-labels-idx1-ubyte"}
    assert len(FashionMNISTConfig(folder=target).load().train) == 60


def test_a_named_origin_without_the_files_is_an_error_not_a_download(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="origin: Fashion-MNIST's four IDX files are not all there"):
        fetch_fashion_mnist(tmp_path / "to", origin=tmp_path / "origin")


def test_without_network_the_message_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be downloaded \(.*no network in tests.*; on a machine without"):
        fetch_fashion_mnist(tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_download_is_checked_and_the_next_address_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def serve(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append(request.full_url)
        if request.full_url.startswith(fashion_mnist.URLS[0]):
            raise http.client.IncompleteRead(b"half")
        name = request.full_url.removeprefix(fashion_mnist.URLS[1]).removesuffix(".gz")
        return io.BytesIO(gzip.compress(idx(arrays()[name])))

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    target = fetch_fashion_mnist(tmp_path / "to")
    assert len(asked) == 8
    assert len(FashionMNISTConfig(folder=target).load().train) == 60

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"<html>moved</html>"))
    with pytest.raises(SourceError, match="checksum is wrong"):
        fetch_fashion_mnist(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    origin = write(tmp_path / "origin", packed=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SourceError, match="cannot be written"):
        fetch_fashion_mnist(tmp_path / "file" / "to", origin=origin)


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_debians_files_are_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "SHA256", SHA256)
    dataset = FashionMNISTConfig(folder=DEBIAN_FOLDER).load()
    assert (len(dataset.train), len(dataset.test)) == (60_000, 10_000)
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
