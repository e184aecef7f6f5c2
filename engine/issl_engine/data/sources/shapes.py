"""The embedded data: coloured shapes on textured backgrounds, made on the spot as JPEG files."""

import csv
import hashlib
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from issl_engine.data.cache import cache_folder
from issl_engine.data.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.data.sources.shapes_drawing import KINDS, draw

FORMAT = 1
"""Part of the folder's name: raise it whenever the same Config would draw other pixels."""
TABLE = "nuisances.csv"
QUALITY = 92


class ShapesConfig(SourceConfig):
    """Several copies of one kind of shape an image; the kind is the class, and all else is a nuisance."""

    name: Literal["shapes"] = "shapes"
    num_train: Annotated[int, Field(ge=2)] = 4096
    """Training images."""
    num_test: Annotated[int, Field(ge=2)] = 1024
    """Test images, drawn from another random stream."""
    num_classes: Annotated[int, Field(ge=2, le=len(KINDS))] = 10
    """Kinds of shapes."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Side of the images, in pixels."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the drawing."""
    folder: Path | None = None
    """Where the images lie or are to be made; null takes a folder of the cache, shared by all runs with these keys."""

    def load(self) -> Dataset:
        folder = self.folder if self.folder is not None else cache_folder() / f"shapes-{self.fingerprint()}"
        if not (folder / TABLE).is_file():
            make_shapes(folder, self)
        return _read(folder, self)

    def fingerprint(self) -> str:
        """Names the images that these keys give."""
        keys = f"{FORMAT} {self.model_dump_json(exclude={'folder'})}"
        return hashlib.sha256(keys.encode()).hexdigest()[:12]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(list(KINDS)[: self.num_classes]))


def make_shapes(folder: Path, config: ShapesConfig) -> None:
    """Draws train/<class>/*.jpg, test/<class>/*.jpg and nuisances.csv into ``folder``.

    The folder appears when it is complete; of two processes that make it at once, one's work is kept. Raises
    SourceError when the folder exists already or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder}: the folder is not empty and holds no shapes; choose another or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise SourceError(f"{folder}: the folder cannot be made ({error.strerror}); choose another") from error
    try:
        _draw_splits(partial, config)
        os.chmod(partial, 0o755)
        try:
            os.rename(partial, folder)
        except OSError:
            if not (folder / TABLE).is_file():  # otherwise another process was first, with the same images
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _draw_splits(folder: Path, config: ShapesConfig) -> None:
    classes = config.classes
    for split in ("train", "test"):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] | None = None
        for stream, (split, count) in enumerate((("train", config.num_train), ("test", config.num_test))):
            for index in range(count):
                # One random stream an image: a longer split begins with the images of a shorter one.
                random = np.random.default_rng((config.seed, stream, index))
                name = classes[index % len(classes)]
                image, nuisances = draw(name, config.image_size, random)
                relative = f"{split}/{name}/{index:06d}.jpg"
                image.save(folder / relative, quality=QUALITY)
                row = {"file": relative, "split": split, "class": name} | asdict(nuisances)
                if writer is None:
                    writer = csv.DictWriter(file, fieldnames=list(row))
                    writer.writeheader()
                writer.writerow(row)


def _read(folder: Path, config: ShapesConfig) -> Dataset:
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = {split: sum(row["split"] == split for row in rows) for split in ("train", "test")}
    if counts != {"train": config.num_train, "test": config.num_test}:
        raise SourceError(
            f"{folder}: holds {counts['train']} training and {counts['test']} test shapes, the recipe asks for "
            f"{config.num_train} and {config.num_test}; change source.num_train and source.num_test, or source.folder"
        )
    classes = tuple(sorted({row["class"] for row in rows}))

    def split(name: str) -> ImageSet:
        chosen = [row for row in rows if row["split"] == name]
        return ImageSet(
            labels=np.array([classes.index(row["class"]) for row in chosen], dtype=np.int64),
            sizes_HW=np.full((len(chosen), 2), config.image_size, dtype=np.int32),
            paths=tuple(str((folder / row["file"]).absolute()) for row in chosen),
        )

    return Dataset(name="shapes", classes=classes, train=split("train"), test=split("test"))
