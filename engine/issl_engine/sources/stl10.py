"""STL-10 (Coates, Lee, Ng 2011): colour images of 96 px; 5000 + 8000 with classes and 100 000 without."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.formats.class_list import archive_classes
from issl_engine.sources.formats.file_bytes import file_content

HOME = "https://cs.stanford.edu/~acoates/stl10"
SIDE = 96
IMAGE_BYTES = 3 * SIDE * SIDE


class STL10Config(SourceConfig):
    """STL-10, mapped from its binary files; pretraining may take the 100 000 images without classes."""

    name: Literal["stl10"] = "stl10"
    folder: Path
    """Folder of the unpacked archive stl10_binary.tar.gz, stl10_binary."""
    unlabelled: bool = True
    """Pretrain on the images without classes; probes use the labelled splits in any case, and there can be no online
    probe. False pretrains on the training split."""

    def load(self) -> Dataset:
        classes = archive_classes(self._path("class_names.txt"), HOME)
        return Dataset(
            name="stl10",
            classes=classes,
            train=self._labelled("train", len(classes)),
            test=self._labelled("test", len(classes)),
            pretrain=self._unlabelled() if self.unlabelled else None,
        )

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            what = "the unlabelled images' file (or set source.unlabelled to false)" if "unlabeled" in name else "it"
            raise SourceError(
                f"source.folder: {self.folder} lacks {name}; unpack {what} from stl10_binary.tar.gz ({HOME})"
            )
        return path

    def _labelled(self, split: str, num_classes: int) -> ImageSet:
        path = self._path(f"{split}_y.bin")
        labels = np.frombuffer(file_content(path), dtype=np.uint8).astype(np.int64)
        pixels = _mapped(self._path(f"{split}_X.bin"))
        if len(labels) != len(pixels):
            raise SourceError(f"{path}: has {len(labels)} labels for the {len(pixels)} images of {split}_X.bin")
        if not 1 <= labels.min() <= labels.max() <= num_classes:
            raise SourceError(
                f"{path}: labels must be 1 to {num_classes}, as class_names.txt has {num_classes} names, but there "
                f"are {labels.min()} to {labels.max()}; fetch the archive again from {HOME}"
            )
        return ImageSet.of_pixels(pixels, labels - 1)

    def _unlabelled(self) -> ImageSet:
        pixels = _mapped(self._path("unlabeled_X.bin"))
        return ImageSet.of_pixels(pixels, np.full(len(pixels), -1))


def _mapped(path: Path) -> NDArray[np.uint8]:
    """[n, 96, 96, 3], a view of the file: it stores each colour's plane column by column."""
    num_bytes = path.stat().st_size
    if not num_bytes or num_bytes % IMAGE_BYTES:
        raise SourceError(
            f"{path}: has {num_bytes} bytes, which is no whole number of images of {IMAGE_BYTES}; fetch it again"
        )
    planes = np.memmap(path, dtype=np.uint8, mode="r", shape=(num_bytes // IMAGE_BYTES, 3, SIDE, SIDE))
    return planes.transpose(0, 3, 2, 1)
