"""Which source reads a folder, from what is in it: for commands that are given a folder and no recipe."""

from pathlib import Path

from issl_engine import sources
from issl_engine.sources.base import SourceConfig, SourceError
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.variants import variants

CLASS_FOLDERS = "train/<class>/* and val/<class>/* (or test/<class>/*)"
FILES = {
    "webdataset": ("index.json", "*.tar"),
    "tfrecord": ("*.tfrecord*", "*.tfrec", "*-of-[0-9][0-9][0-9][0-9][0-9]"),
    "parquet": ("*.parquet",),
}
"""Source → its files, in the folder or in one of the folders in it."""


def source_of_folder(folder: Path) -> SourceConfig:
    """The source with ``folder`` alone set, all else by default. Raises SourceError where none fits."""
    known = variants(sources, SourceConfig)
    if not _has_class_folders(folder):
        for name, patterns in FILES.items():
            if name in known and any(_holds(folder, pattern) for pattern in patterns):
                return known[name].model_validate({"name": name, "folder": folder})
    if not (folder / "train").is_dir():
        there = [CLASS_FOLDERS, *(pattern for name in FILES if name in known for pattern in FILES[name])]
        raise SourceError(
            f"{folder}: no data set is recognised here; there must be {', or '.join(there)}; name another folder, or a "
            "recipe"
        )
    return ImageFolderConfig(folder=folder, test_split="val" if (folder / "val").is_dir() else "test")


def _has_class_folders(folder: Path) -> bool:
    """Whether this is a folder of images, in which a table may lie beside them."""
    splits = [folder / "train", folder / ("val" if (folder / "val").is_dir() else "test")]
    return all(split.is_dir() and any(entry.is_dir() for entry in split.iterdir()) for split in splits)


def _holds(folder: Path, pattern: str) -> bool:
    return any(path.is_file() for place in (pattern, f"*/{pattern}") for path in folder.glob(place))
