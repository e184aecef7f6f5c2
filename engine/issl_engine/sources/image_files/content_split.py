"""A train and a test split of files that come without one, by what is in the files."""

import hashlib
from pathlib import Path

from issl_engine.sources.formats.file_bytes import file_content
from issl_engine.sources.image_files.found import ClassFiles
from issl_engine.sources.image_files.remembered_sizes import ImageFile


def split_by_content(part: ClassFiles, test_fraction: float) -> tuple[ClassFiles, ClassFiles]:
    """(train, test): a file plays the test split if its SHA-256, read as a share of the largest one, is below
    ``test_fraction``. So copies of an image are in one split whatever their names and classes, and images that are
    added later move no other. Raises SourceError for a file that cannot be read from the disk.
    """
    train: list[ImageFile] = []
    test: list[ImageFile] = []
    for file in part.files:
        (test if _share(file) < test_fraction else train).append(file)
    return (
        ClassFiles(place=f"{part.place}, train split", files=train),
        ClassFiles(place=f"{part.place}, test split", files=test),
    )


def _share(file: ImageFile) -> float:
    """Its content's place among all contents, uniform in 0 to 1."""
    return int.from_bytes(hashlib.sha256(file_content(Path(file.path))).digest()[:8]) / 2**64
