"""Fashion-MNIST (Xiao et al. 2017): 70 000 grey images of 28 px, ten kinds of clothing, in IDX files."""

import hashlib
import http.client
import logging
import os
import urllib.request
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from issl_engine.cache import cache_folder
from issl_engine.sources.balanced_subset import balanced_subset
from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.formats.file_bytes import file_content
from issl_engine.sources.formats.idx import idx_path, parse_idx, unpack
from issl_engine.sources.formats.new_file import new_file

_log = logging.getLogger("issl_engine")

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
URLS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
"""Where the dataset's authors publish the four .gz files, in the order of trying."""
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""IDX file → SHA-256 of its content, unpacked."""


class FashionMNISTConfig(SourceConfig):
    """Fashion-MNIST, held in memory."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    folder: Path | None = None
    """Folder of the four IDX files, packed (.gz) or not; null looks in the cache, then where Debian's package
    dataset-fashion-mnist puts them."""
    max_train_images: Annotated[int, Field(ge=10, le=60_000)] | None = None
    """Take only so many training images, equally many of each class (to one), or null for all."""
    subset_seed: Annotated[int, Field(ge=0)] = 0
    """Seed that draws those images; nothing depends on it where max_train_images is null."""

    def load(self) -> Dataset:
        folder = self._find()
        arrays = {name: _read(folder, name) for name in SHA256}
        train = ImageSet.of_pixels(arrays["train-images-idx3-ubyte"][..., None], arrays["train-labels-idx1-ubyte"])
        if self.max_train_images is not None:
            train = train.subset(balanced_subset(train.labels, self.max_train_images, self.subset_seed))
        test = ImageSet.of_pixels(arrays["t10k-images-idx3-ubyte"][..., None], arrays["t10k-labels-idx1-ubyte"])
        return Dataset(name="fashion_mnist", classes=CLASSES, train=train, test=test)

    def _find(self) -> Path:
        candidates = [self.folder] if self.folder is not None else [cache_folder() / "fashion-mnist", DEBIAN_FOLDER]
        for candidate in candidates:
            if candidate is not None and all(idx_path(candidate, name) for name in SHA256):
                return candidate
        places = " and ".join(str(candidate) for candidate in candidates)
        raise SourceError(
            f"source.folder: Fashion-MNIST's four IDX files are not all in {places}; run "
            "'issl-engine data fetch fashion-mnist', or install Debian's package dataset-fashion-mnist"
        )


def fetch_fashion_mnist(folder: Path | None = None, *, origin: Path | None = None) -> Path:
    """Copies the files from ``origin``, else from Debian's folder, else downloads them; compares checksums.

    Files that are there already and right are left alone. Returns the folder. Raises SourceError.
    """
    target = folder if folder is not None else cache_folder() / "fashion-mnist"
    if origin is not None and not all(idx_path(origin, name) for name in SHA256):
        raise SourceError(f"{origin}: Fashion-MNIST's four IDX files are not all there; name another folder, or none")
    for name in SHA256:
        if (target / name).is_file() and _digest_of(target / name) == SHA256[name]:
            _log.info("%s: already there, checksum right", target / name)
            continue
        found = idx_path(origin if origin is not None else DEBIAN_FOLDER, name)
        if found:
            _write(target / name, _checked(unpack(file_content(found), found), name, found))
        else:
            _write(target / name, _download(name))
        _log.info("%s: %s, checksum right", target / name, "copied" if found else "downloaded")
    return target


def _download(name: str) -> bytes:
    """The unpacked content from the first place that gives the right one."""
    failures = []
    for url in URLS:
        address = f"{url}{name}.gz"
        request = urllib.request.Request(address, headers={"User-Agent": "issl-engine"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return _checked(unpack(answer.read(), address), name, address)
        except SourceError as error:
            failures.append(str(error))
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{address}: {getattr(error, 'reason', error)}")
    raise SourceError(
        f"{name}.gz cannot be downloaded ({'; '.join(failures)}); on a machine without network, put the four "
        "files into a folder and name it as source.folder"
    )


def _write(path: Path, content: bytes) -> None:
    """The whole file or none."""
    try:
        with new_file(path) as file:
            os.fchmod(file.fileno(), 0o644)  # a new file is the owner's alone
            file.write(content)
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error


def _digest_of(path: Path) -> str:
    return hashlib.sha256(file_content(path)).hexdigest()


def _checked(content: bytes, name: str, place: Path | str) -> bytes:
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise SourceError(f"{place}: the content's checksum is wrong; fetch it from elsewhere")
    return content


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    path = idx_path(folder, name)
    assert path is not None
    content = unpack(file_content(path), path)
    array = parse_idx(content, path)  # first, because what it finds says more than a checksum
    _checked(content, name, path)
    return array
