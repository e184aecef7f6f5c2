"""Fashion-MNIST (Xiao et al. 2017): 70 000 grey images of 28 px, ten kinds of clothing, in IDX files."""

import gzip
import hashlib
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from issl_engine.data.cache import cache_folder
from issl_engine.data.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.data.sources.idx import parse_idx

_log = logging.getLogger("issl_engine")

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
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
    max_train_images: Annotated[int, Field(ge=10)] | None = None
    """Take only the first so many training images, or null for all."""

    def load(self) -> Dataset:
        folder = self._find()
        images = {name: _read(folder, name) for name in SHA256}
        count = self.max_train_images
        return Dataset(
            name="fashion_mnist",
            classes=CLASSES,
            train=_image_set(images["train-images-idx3-ubyte"][:count], images["train-labels-idx1-ubyte"][:count]),
            test=_image_set(images["t10k-images-idx3-ubyte"], images["t10k-labels-idx1-ubyte"]),
        )

    def _find(self) -> Path:
        candidates = [self.folder] if self.folder is not None else [cache_folder() / "fashion-mnist", DEBIAN_FOLDER]
        for candidate in candidates:
            if candidate is not None and all(_path(candidate, name) for name in SHA256):
                return candidate
        places = " and ".join(str(candidate) for candidate in candidates)
        raise SourceError(
            f"source.folder: Fashion-MNIST's four IDX files are not all in {places}; run 'issl-engine data fetch "
            "fashion-mnist', or install Debian's package dataset-fashion-mnist"
        )


def fetch_fashion_mnist(folder: Path | None = None, *, origin: Path | None = None) -> Path:
    """Copies the files from ``origin`` (default Debian's folder, if it is there), else downloads them; checks them.

    Returns the folder. Raises SourceError.
    """
    target = folder if folder is not None else cache_folder() / "fashion-mnist"
    origin = origin if origin is not None else DEBIAN_FOLDER
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, digest in SHA256.items():
            found = _path(origin, name)
            packed = found.read_bytes() if found else _download(f"{name}.gz")
            content = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
            if hashlib.sha256(content).hexdigest() != digest:
                raise SourceError(f"{found or URL + name}: the content's checksum is wrong; fetch it from elsewhere")
            partial = target / f".{name}.partial"
            partial.write_bytes(content)
            os.replace(partial, target / name)
            _log.info("%s: %s, checksum right", target / name, "copied" if found else "downloaded")
    except OSError as error:
        raise SourceError(f"{target}: cannot be written ({error.strerror or error})") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise SourceError(f"{origin}: a .gz file there is damaged; remove it and fetch again") from error
    return target


def _download(name: str) -> bytes:
    request = urllib.request.Request(URL + name, headers={"User-Agent": "issl-engine"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise SourceError(
            f"{URL}{name}: cannot be downloaded ({getattr(error, 'reason', error)}); on a machine without network, "
            "put the four files into a folder and name it as source.folder"
        ) from error


def _path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    path = _path(folder, name)
    assert path is not None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: the file cannot be unpacked ({error}); fetch it again") from error
    array = parse_idx(content, path)
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise SourceError(f"{path}: this is not Fashion-MNIST's file (its checksum differs); fetch it again")
    return array


def _image_set(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> ImageSet:
    return ImageSet(
        labels=labels.astype(np.int64),
        sizes_HW=np.full((len(images), 2), images.shape[1], dtype=np.int32),
        pixels=np.ascontiguousarray(images[..., None]),
    )
