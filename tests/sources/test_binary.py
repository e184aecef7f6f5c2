"""MNIST's, CIFAR's and STL-10's files, written here as their authors describe them: pixels, labels, names, mistakes."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from issl_engine.sources.base import Dataset, ImageSet, SourceError
from issl_engine.sources.cifar import LAYOUTS, CifarConfig
from issl_engine.sources.mnist import MNISTConfig
from issl_engine.sources.stl10 import STL10Config
from issl_engine.views.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]


def random_pixels(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def check(images: ImageSet, pixels: Pixels, labels: list[int]) -> None:
    assert images.pixels is not None
    assert (images.pixels == pixels).all()
    assert images.pixels.dtype == np.uint8
    assert images.labels.tolist() == labels
    assert images.labels.dtype == np.int64
    assert (images.sizes_HW == pixels.shape[1:3]).all()


# MNIST ----------------------------------------------------------------------------------------------------------------


def idx(array: Pixels) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, labels: list[int], *, prefix: str = "", test: str = "t10k", packed: bool = False) -> Path:
    """Eight training and four test images of 12 x 10 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, seed, own in (("train", 0, labels), (test, 1, labels[:4])):
        for name, array in (
            (f"{split}-images-idx3-ubyte", random_pixels(seed, len(own), 12, 10)),
            (f"{split}-labels-idx1-ubyte", np.array(own, np.uint8)),
        ):
            content = idx(array)
            path = folder / f"{prefix}{name}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_of_any_size(packed: bool, tmp_path: Path) -> None:
    labels = [0, 1, 2, 2, 1, 0, 1, 2]
    dataset = MNISTConfig(folder=write_mnist(tmp_path / "digits", labels, packed=packed)).load()
    assert (dataset.name, dataset.classes) == ("digits", ("0", "1", "2"))
    check(dataset.train, random_pixels(0, 8, 12, 10)[..., None], labels)
    check(dataset.test, random_pixels(1, 4, 12, 10)[..., None], labels[:4])


def test_mnist_with_a_prefix_turned_images_and_labels_from_one_on(tmp_path: Path) -> None:
    """As EMNIST's letters are."""
    labels = [1, 2, 3, 3, 2, 1, 2, 3]
    folder = write_mnist(tmp_path, labels, prefix="emnist-letters-", test="test")
    dataset = MNISTConfig(folder=folder, prefix="emnist-letters-", transposed=True).load()
    assert dataset.classes == ("1", "2", "3")
    check(dataset.train, random_pixels(0, 8, 12, 10).swapaxes(1, 2)[..., None], [label - 1 for label in labels])
    named = MNISTConfig(folder=folder, prefix="emnist-letters-", classes=("-", "a", "b", "c")).load()
    assert (named.classes[3], named.train.labels.tolist()) == ("c", labels)


def test_mnist_files_that_are_spelt_with_a_dot_are_found(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path, [0, 1] * 4)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(MNISTConfig(folder=folder).load().train) == 8


def test_mistakes_about_mnist_are_named(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path, [0, 1, 2, 3, 0, 1, 2, 3])
    with pytest.raises(
        SourceError, match=r"train-labels.*there are images with label 3, but source\.classes names only 3"
    ):
        MNISTConfig(folder=folder, classes=("a", "b", "c")).load()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1, 2, 7], np.uint8)))
    with pytest.raises(SourceError, match=r"t10k-labels.*images with label 7, but the training split has none"):
        MNISTConfig(folder=folder).load()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(SourceError, match="has 3 labels for the 4 images of t10k-images-idx3-ubyte"):
        MNISTConfig(folder=folder).load()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros((4, 1), np.uint8)))
    with pytest.raises(SourceError, match=r"t10k-labels-idx1-ubyte: has 2 axes, sizes \[4, 1\], but must have 1"):
        MNISTConfig(folder=folder).load()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((4, 9, 9), np.uint8)))
    with pytest.raises(SourceError, match="training images are of 12 x 10 px, test images of 9 x 9 px"):
        MNISTConfig(folder=folder).load()
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(SourceError, match=r"lacks the IDX file t10k-images-idx3-ubyte, .*https://yann\.lecun\.com"):
        MNISTConfig(folder=folder).load()


# CIFAR ----------------------------------------------------------------------------------------------------------------

COUNT = 3  # images per file


def planes(seed: int) -> Pixels:
    """What a file stores of its images: the red plane, the green one, the blue one."""
    return random_pixels(seed, COUNT, 3, 32, 32)


def cifar10_binary(folder: Path) -> None:
    for seed in range(6):
        rows = [bytes([(seed + i) % 10]) + planes(seed)[i].tobytes() for i in range(COUNT)]
        name = f"data_batch_{seed + 1}.bin" if seed < 5 else "test_batch.bin"
        (folder / name).write_bytes(b"".join(rows))
    (folder / "batches.meta.txt").write_text("\n".join(f"class{k}" for k in range(10)) + "\n\n")


def cifar100_binary(folder: Path) -> None:
    for seed, name in ((0, "train.bin"), (1, "test.bin")):
        rows = [bytes([i, 30 + i]) + planes(seed)[i].tobytes() for i in range(COUNT)]
        (folder / name).write_bytes(b"".join(rows))
    (folder / "fine_label_names.txt").write_text("".join(f"fine{k}\n" for k in range(100)))
    (folder / "coarse_label_names.txt").write_text("".join(f"coarse{k}\n" for k in range(20)))


def dump(path: Path, content: dict[Any, Any], *, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def cifar10_python(folder: Path) -> None:
    for seed in range(6):
        labels = [(seed + i) % 10 for i in range(COUNT)]
        content = {b"data": planes(seed).reshape(COUNT, 3072), b"labels": labels, b"batch_label": b"one of six"}
        dump(folder / (f"data_batch_{seed + 1}" if seed < 5 else "test_batch"), content)
    dump(folder / "batches.meta", {b"label_names": [f"class{k}".encode() for k in range(10)], b"num_vis": 3072})


def cifar100_python(folder: Path) -> None:
    for seed, name in ((0, "train"), (1, "test")):
        fine, coarse = [30 + i for i in range(COUNT)], list(range(COUNT))
        content = {"data": planes(seed).reshape(COUNT, 3072), "fine_labels": fine, "coarse_labels": coarse}
        dump(folder / name, content)
    names = {
        "fine_label_names": [f"fine{k}" for k in range(100)],
        "coarse_label_names": [f"coarse{k}" for k in range(20)],
    }
    dump(folder / "meta", names)


WRITERS: dict[str, Callable[[Path], None]] = {
    "cifar-10-batches-bin": cifar10_binary,
    "cifar-10-batches-py": cifar10_python,
    "cifar-100-binary": cifar100_binary,
    "cifar-100-python": cifar100_python,
}


def write_cifar(tmp_path: Path, layout: str) -> Path:
    folder = tmp_path / layout
    folder.mkdir()
    WRITERS[layout](folder)
    return folder


def test_every_layout_is_tested() -> None:
    assert {layout.folder for layout in LAYOUTS} == set(WRITERS)


@pytest.mark.parametrize("layout", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_cifar10(layout: str, tmp_path: Path) -> None:
    dataset = CifarConfig(folder=write_cifar(tmp_path, layout)).load()
    assert (dataset.name, dataset.classes) == ("cifar10", tuple(f"class{k}" for k in range(10)))
    train = np.concatenate([planes(seed) for seed in range(5)]).transpose(0, 2, 3, 1)
    check(dataset.train, train, [seed + i for seed in range(5) for i in range(COUNT)])
    check(dataset.test, planes(5).transpose(0, 2, 3, 1), [5, 6, 7])


@pytest.mark.parametrize("layout", ["cifar-100-binary", "cifar-100-python"])
@pytest.mark.parametrize(("labels", "first", "number"), [("fine", 30, 100), ("coarse", 0, 20)])
def test_cifar100(layout: str, labels: Any, first: int, number: int, tmp_path: Path) -> None:
    dataset = CifarConfig(folder=write_cifar(tmp_path, layout), labels=labels).load()
    assert (dataset.name, dataset.classes) == ("cifar100", tuple(f"{labels}{k}" for k in range(number)))
    for images, seed in ((dataset.train, 0), (dataset.test, 1)):
        check(images, planes(seed).transpose(0, 2, 3, 1), [first, first + 1, first + 2])


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_and_of_python_2_are_read(protocol: int, tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar-10-batches-py")
    path = folder / "test_batch"
    content = {b"data": planes(5).reshape(COUNT, 3072), b"labels": [1, 2, 3], b"batch_label": b""}
    dump(path, content, protocol=protocol)
    if protocol == 0:  # as Python 2 named NumPy's function
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    check(CifarConfig(folder=folder).load().test, planes(5).transpose(0, 2, 3, 1), [1, 2, 3])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


class EvilByBuiltins:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize("payload", [Evil, EvilByBuiltins])
def test_a_pickle_that_would_run_code_is_refused(
    payload: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cifar(tmp_path, "cifar-10-batches-py")
    dump(folder / "test_batch", {b"data": payload(), b"labels": []})
    with pytest.raises(SourceError, match=r"test_batch: .*it holds __builtin__\.\w+, which is not read for safety"):
        CifarConfig(folder=folder).load()
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pickle of arrays that can be read"),
        (b"<html>not found</html>", "no pickle of arrays that can be read"),
        (pickle.dumps([1, 2]), "the pickle holds a list instead of a dictionary"),
        (pickle.dumps({b"data": 1}), r"there is no 'labels' in it \(there are: data\)"),
        (pickle.dumps({b"data": [1], b"labels": [1]}), r"its 'data' is no array of unsigned bytes \[n, 3072\]"),
        (pickle.dumps({b"data": np.zeros((1, 99), np.uint8), b"labels": [1]}), "its 'data' is no array"),
        (pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}), "its 'data' is no array"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), "its 'labels' is no list of 2 whole"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}), "there is a label 10, but only 10"),
    ],
)
def test_a_damaged_pickle_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar-10-batches-py")
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(SourceError, match=rf"test_batch: .*{message}"):
        CifarConfig(folder=folder).load()


def test_a_damaged_binary_file_is_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar-10-batches-bin")
    path = folder / "data_batch_2.bin"
    whole = path.read_bytes()
    for damaged in (whole[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"data_batch_2\.bin: has \d+ bytes, which is no whole number of records"):
            CifarConfig(folder=folder).load()
    path.write_bytes(b"\x63" + whole[1:])
    with pytest.raises(SourceError, match=r"data_batch_2\.bin: there is a label 99, but only 10 class names"):
        CifarConfig(folder=folder).load()
    path.write_bytes(whole)
    (folder / "batches.meta.txt").write_text("\n")
    with pytest.raises(SourceError, match=r"batches\.meta\.txt: there are no class names in it"):
        CifarConfig(folder=folder).load()


def test_a_wrong_folder_is_refused_with_where_the_archive_is(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, "cifar-10-batches-bin")
    with pytest.raises(SourceError, match=r"has the archive's folder in it; name cifar-10-batches-bin there"):
        CifarConfig(folder=tmp_path).load()
    with pytest.raises(SourceError, match=r"nowhere is none of cifar-10-batches-bin, .*https://www\.cs\.toronto\.edu"):
        CifarConfig(folder=tmp_path / "nowhere").load()
    with pytest.raises(SourceError, match=r"source\.labels: .*holds CIFAR-10, which has no coarse labels; take fine"):
        CifarConfig(folder=folder, labels="coarse").load()
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(SourceError, match=r"lacks data_batch_4\.bin; unpack the whole archive"):
        CifarConfig(folder=folder).load()
    cifar10_binary(folder)
    cifar100_python(folder)
    with pytest.raises(SourceError, match="holds the files of cifar-10-batches-bin and cifar-100-python; put each"):
        CifarConfig(folder=folder).load()


# STL-10 ---------------------------------------------------------------------------------------------------------------

COUNTS = {"train": 4, "test": 3, "unlabeled": 6}


def stl10_pixels(split: str) -> Pixels:
    return random_pixels(len(split), COUNTS[split], 96, 96, 3)


def write_stl10(folder: Path) -> Path:
    folder.mkdir()
    for split in COUNTS:
        columns = stl10_pixels(split).transpose(0, 3, 2, 1)  # a plane a colour, column after column
        (folder / f"{split}_X.bin").write_bytes(np.ascontiguousarray(columns).tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 3, 1]))
    (folder / "test_y.bin").write_bytes(bytes([2, 2, 10]))
    (folder / "class_names.txt").write_text("\n".join(f"class{k}" for k in range(10)) + "\n")
    return folder


@pytest.fixture
def stl10(tmp_path: Path) -> Path:
    return write_stl10(tmp_path / "stl10_binary")


def test_stl10_is_upright_and_labelled_from_zero_on(stl10: Path) -> None:
    dataset = STL10Config(folder=stl10).load()
    assert dataset.classes == tuple(f"class{k}" for k in range(10))
    check(dataset.train, stl10_pixels("train"), [0, 9, 2, 0])
    check(dataset.test, stl10_pixels("test"), [1, 1, 9])
    assert dataset.pretrain is not None
    check(dataset.pretrain, stl10_pixels("unlabeled"), [-1] * 6)
    assert dataset.pretraining_images is dataset.pretrain


def test_stl10_pixels_stay_in_their_file(stl10: Path) -> None:
    """2.7 GB are mapped, not read."""
    dataset = STL10Config(folder=stl10).load()
    for images in (dataset.train, dataset.test, dataset.pretraining_images):
        assert isinstance(images.pixels, np.memmap)


def test_stl10_without_the_unlabelled_images(stl10: Path) -> None:
    (stl10 / "unlabeled_X.bin").unlink()
    dataset = STL10Config(folder=stl10, unlabelled=False).load()
    assert dataset.pretrain is None
    assert dataset.pretraining_images is dataset.train
    with pytest.raises(SourceError, match=r"lacks unlabeled_X\.bin; .* \(or set source\.unlabelled to false\)"):
        STL10Config(folder=stl10).load()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", b"x" * 27_647, r"train_X\.bin: has 27647 bytes, which is no whole number of images of 27648"),
        ("train_X.bin", b"", r"train_X\.bin: has 0 bytes"),
        ("train_y.bin", bytes([1, 2]), r"train_y\.bin: has 2 labels for the 4 images of train_X\.bin"),
        ("train_y.bin", bytes([1, 2, 3, 11]), r"labels must be 1 to 10, .* there are 1 to 11"),
        ("test_y.bin", bytes([0, 2, 3]), r"test_y\.bin: labels must be 1 to 10, .* there are 0 to 3"),
        ("class_names.txt", b"\n", r"class_names\.txt: there are no class names"),
    ],
)
def test_damaged_files_of_stl10_are_named(name: str, content: bytes, message: str, stl10: Path) -> None:
    (stl10 / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        STL10Config(folder=stl10).load()


def test_a_missing_file_of_stl10_is_named_with_its_archive(stl10: Path) -> None:
    (stl10 / "test_X.bin").unlink()
    with pytest.raises(SourceError, match=r"lacks test_X\.bin; unpack it from stl10_binary\.tar\.gz \(https://cs"):
        STL10Config(folder=stl10).load()


def test_loaders_take_mapped_and_turned_pixels(stl10: Path) -> None:
    import torch

    from issl_engine.loading import EvaluationImages

    dataset: Dataset = STL10Config(folder=stl10).load()
    batches = EvaluationImages(
        dataset.train,
        Preprocessing(resize=96, crop=96, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"),
        batch_size=3,
        device=torch.device("cpu"),
        num_threads=1,
    )
    crops = torch.cat([images for images, _ in batches])
    expected = torch.from_numpy(stl10_pixels("train")).permute(0, 3, 1, 2) / 255
    assert (crops - expected).abs().max() < 1e-6
