"""Arrays in .npy, .npz and HDF5: mapped where they lie, unpacked once where they are packed, checked."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from issl_engine.loading import EvaluationImages
from issl_engine.sources.arrays import ArraysConfig
from issl_engine.sources.base import SourceError
from issl_engine.sources.formats import array_files
from issl_engine.views.preprocessing import Preprocessing

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (9, 12, 10, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])

pytestmark = pytest.mark.usefixtures("own_cache")


def write(path: Path, how: str, **arrays: NDArray[Any]) -> dict[str, str]:
    """Files that hold ``arrays``, and where each is as a recipe writes it."""
    if how == "npy":
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
        return {name: str(path / f"{name}.npy") for name in arrays}
    if how in ("npz", "compressed npz"):
        (np.savez if how == "npz" else np.savez_compressed)(path / "all.npz", **arrays)
        return {name: f"{path / 'all.npz'}:{name}" for name in arrays}
    h5py = pytest.importorskip("h5py")
    with h5py.File(path / "all.h5", "w", userblock_size=512 if how == "hdf5 with user block" else 0) as file:
        for name, array in arrays.items():
            settings = {"chunks": (2, *array.shape[1:]), "compression": "gzip"} if how == "packed hdf5" else {}
            file.create_dataset(f"group/{name}", data=array, **settings)
    return {name: f"{path / 'all.h5'}:group/{name}" for name in arrays}


def config(path: Path, how: str = "npy", layout: str = "NHWC", **changes: NDArray[Any]) -> ArraysConfig:
    arrays = {
        "train_images": COLOUR, "train_labels": LABELS, "test_images": COLOUR[:4], "test_labels": LABELS[:4],
    }  # fmt: skip
    return ArraysConfig.model_validate(write(path, how, **(arrays | changes)) | {"layout": layout})


KINDS = ["npy", "npz", "compressed npz", "hdf5", "hdf5 with user block", "packed hdf5"]


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("block_bytes", [1, 64 * 2**20])
def test_every_container_gives_the_arrays_and_keeps_them_out_of_memory(
    how: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "BLOCK_BYTES", block_bytes)
    dataset = config(tmp_path, how).load()
    assert isinstance(dataset.train.pixels, np.memmap)
    assert (dataset.train.pixels == COLOUR).all()
    assert (dataset.train.labels == LABELS).all()
    assert dataset.train.labels.dtype == np.int64
    assert dataset.test.pixels is not None
    assert (dataset.test.pixels == COLOUR[:4]).all()
    assert dataset.classes == ("0", "1", "2")
    assert (dataset.train.sizes_HW == (12, 10)).all()


@pytest.mark.parametrize("how", KINDS)
def test_only_packed_arrays_are_copied_and_once(how: str, tmp_path: Path, own_cache: Path) -> None:
    recipe = config(tmp_path, how)
    recipe.load()
    copies = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")}
    assert bool(copies) == (how in ("compressed npz", "packed hdf5"))
    recipe.load()
    assert {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")} == copies


@pytest.mark.parametrize("how", ["compressed npz", "packed hdf5"])
def test_a_packed_file_that_changed_is_unpacked_again(how: str, tmp_path: Path) -> None:
    config(tmp_path, how).load()
    dataset = config(tmp_path, how, train_images=255 - COLOUR).load()
    assert dataset.train.pixels is not None
    assert (dataset.train.pixels == 255 - COLOUR).all()


@pytest.mark.parametrize("how", KINDS)
def test_other_layouts_are_views(how: str, tmp_path: Path) -> None:
    planes = np.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2))
    dataset = config(tmp_path, how, "NCHW", train_images=planes, test_images=planes[:4]).load()
    assert isinstance(dataset.train.pixels, np.memmap)
    assert (dataset.train.pixels == COLOUR).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("how", ["npy", "npz"])
def test_grey_images_and_columns_first(order: Any, how: str, tmp_path: Path) -> None:
    grey = np.asarray(COLOUR[..., 0], order=order)
    dataset = config(tmp_path, how, train_images=grey, test_images=grey[:4]).load()
    assert dataset.train.pixels is not None
    assert (dataset.train.pixels == COLOUR[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, ">i8", np.uint64])
def test_labels_may_be_any_whole_numbers(dtype: Any, tmp_path: Path) -> None:
    assert (config(tmp_path, train_labels=LABELS.astype(dtype)).load().train.labels == LABELS).all()


def test_loaders_read_mapped_arrays(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2))
    images = config(tmp_path, "npy", "NCHW", train_images=planes, test_images=planes[:4]).load().train
    batches = EvaluationImages(
        images,
        Preprocessing(resize=10, crop=10, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"),
        batch_size=4,
        device=torch.device("cpu"),
        num_threads=1,
    )
    crops = torch.cat([crops for crops, _ in batches])
    assert (crops - torch.from_numpy(COLOUR[:, 1:11]).permute(0, 3, 1, 2) / 255).abs().max() < 1e-6


def test_classes_may_be_named(tmp_path: Path) -> None:
    recipe = config(tmp_path).model_copy(update={"classes": ("a", "b", "c")})
    assert recipe.load().classes == ("a", "b", "c")
    with pytest.raises(
        SourceError, match=r"train_labels\.npy: there are images with label 2, but source\.classes names only 2"
    ):
        recipe.model_copy(update={"classes": ("a", "b")}).load()
    with pytest.raises(SourceError, match=r"no image has label 3; labels must be 0, 1, 2 and so on"):
        recipe.model_copy(update={"classes": ("a", "b", "c", "d")}).load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": COLOUR / 255}, r"train_images\.npy holds float64, but images must be uint8 \(0 to 255\)"),
        ({"train_images": COLOUR[0, ..., 0]}, r"has the shape \[12, 10\], but images are \[n, height, width\]"),
        ({"train_images": COLOUR[:0]}, r"has the shape \[0, 12, 10, 3\], but images are"),
        ({"train_images": COLOUR[..., :2]}, "in layout NHWC 2 channels, which must be 1 or 3"),
        ({"train_images": COLOUR.transpose(0, 3, 1, 2)}, r"in layout NHWC 10 channels; set source\.layout to NCHW"),
        ({"test_images": COLOUR[:4, ..., :1]}, r"test_images\.npy has 1 channels, but the training images have 3"),
        ({"train_labels": LABELS[:5]}, r"source\.train_labels: .*has 5 labels, but .*train_images\.npy has 9 images"),
        ({"train_labels": LABELS[:, None]}, r"is int64 of shape \[9, 1\], but labels are whole numbers \[n\]"),
        ({"train_labels": LABELS / 2}, r"is float64 of shape \[9\], but labels are whole numbers"),
        ({"train_labels": LABELS - 1}, r"has the label -1, but labels count from 0; leave such images out"),
        ({"train_labels": LABELS + 1}, r"source\.train_labels: .*no image has label 0; labels must be 0, 1, 2"),
        (
            {"test_labels": LABELS[:4] + 3},
            r"source\.test_labels: .*there are images with label 3, but the training split has none",
        ),
        ({"train_labels": np.array([None] * 9)}, r"source\.train_labels: .*train_labels\.npy cannot be read"),
    ],
)
def test_arrays_of_the_wrong_kind_are_named(changes: dict[str, NDArray[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message) as error:
        config(tmp_path, **changes).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["npz", "hdf5"])
def test_an_array_that_is_not_there_is_named_with_those_that_are(how: str, tmp_path: Path) -> None:
    recipe = config(tmp_path, how)
    file = recipe.train_images.partition(":")[0]
    with pytest.raises(SourceError, match=r"has no array 'x' \(there are: .*train_images"):
        recipe.model_copy(update={"train_images": f"{file}:x"}).load()
    with pytest.raises(SourceError, match=r"source\.train_images: name an array of .* as .*:NAME \(there are: "):
        recipe.model_copy(update={"train_images": file}).load()


@pytest.mark.parametrize("suffix", [".npy", ".npz:x", ".h5:x"])
def test_files_that_cannot_be_read_are_named(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    recipe = config(tmp_path)
    place = str(tmp_path / f"bad{suffix}")
    with pytest.raises(SourceError, match=r"source\.train_images: .*bad\.\w+ is not a file"):
        recipe.model_copy(update={"train_images": place}).load()
    Path(place.partition(":")[0]).write_bytes(b"neither of them")
    with pytest.raises(SourceError, match=r"source\.train_images: .*bad\.\w+ cannot be read \(.*\); write it again"):
        recipe.model_copy(update={"train_images": place}).load()


def test_other_files_are_refused(tmp_path: Path) -> None:
    recipe = config(tmp_path).model_copy(update={"train_images": str(tmp_path / "x.mat")})
    with pytest.raises(SourceError, match=r"x\.mat must be a \.npy file, or FILE:NAME of a \.npz, \.h5 or \.hdf5 file"):
        recipe.load()


def test_text_in_hdf5_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["names"] = ["a", "b"]
    recipe = config(tmp_path).model_copy(update={"train_labels": f"{tmp_path / 'text.h5'}:names"})
    with pytest.raises(SourceError, match="names holds object and no numbers"):
        recipe.load()


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config(tmp_path, "hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"all\.h5 needs h5py; install it with pip install 'issl-engine\[hdf5\]'"):
        recipe.load()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match=r"cannot be written .*all\.npz must be unpacked; set ISSL_ENGINE_CACHE"):
        config(tmp_path, "compressed npz").load()


def test_an_interrupted_unpacking_leaves_nothing(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config(tmp_path, "compressed npz")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_files.os, "replace", fail)
    with pytest.raises(SourceError, match="No space left on device"):
        recipe.load()
    assert not list((own_cache / "arrays").iterdir())
