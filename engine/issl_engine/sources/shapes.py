"""The embedded data: coloured shapes on textured backgrounds, made on the spot as JPEG files."""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from issl_engine.cache import cache_folder
from issl_engine.mistakes import Mistake
from issl_engine.sources.base import Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.sources.drawing.draw import draw
from issl_engine.sources.drawing.nuisances import read_targets
from issl_engine.sources.drawing.outlines import KINDS

FORMAT = 3
"""Part of the folder's name: raise it whenever the same Config would give other files."""
TABLE = "nuisances.csv"
KEYS = "shapes.json"
"""What the folder was made from: FORMAT and the Config."""
QUALITY = 92
SPLITS = ("train", "test")


class ShapesConfig(SourceConfig):
    """Several copies of one kind of shape per image; the kind is the class, and all else is a nuisance."""

    name: Literal["shapes"] = "shapes"
    num_train: Annotated[int, Field(ge=2)] = 4096
    """Training images."""
    num_test: Annotated[int, Field(ge=2)] = 1024
    """Test images, drawn from another random stream."""
    num_classes: Annotated[int, Field(ge=2, le=len(KINDS))] = 10
    """Kinds of shapes."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Side of the images, in pixels."""
    rotation: Annotated[float, Field(ge=0, le=360)] = 360.0
    """Every copy is turned by an angle between 0 and this, in degrees. Small angles make kinds much easier to learn."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the drawing."""
    folder: Path | None = None
    """Where the images lie or are to be made; null takes a folder of the cache, shared by runs with
    these keys."""

    @field_validator("num_classes")
    @classmethod
    def _every_class_is_in_both_splits(cls, num_classes: int, info: ValidationInfo) -> int:
        for key in ("num_train", "num_test"):
            if num_classes > info.data.get(key, num_classes):
                raise Mistake(f"num_classes is {num_classes}, but {key} is only {info.data[key]}; raise {key}")
        return num_classes

    def load(self) -> Dataset:
        folder = self.folder if self.folder is not None else cache_folder() / f"shapes-{self.fingerprint()}"
        make_shapes(folder, self)
        return _read(folder, self)

    def fingerprint(self) -> str:
        """Names the images that these keys give."""
        return hashlib.sha256(json.dumps(self.keys()).encode()).hexdigest()[:12]

    def keys(self) -> dict[str, Any]:
        """All that the images depend on. A key that folders of older versions do not name counts where it is not
        at its default."""
        unsaid = {"rotation"} if self.rotation == type(self).model_fields["rotation"].default else set()
        return {"format": FORMAT} | self.model_dump(mode="json", exclude={"name", "folder", *unsaid})

    @property
    def classes(self) -> tuple[str, ...]:
        """The kinds of shapes in use; a label is a place in it."""
        return tuple(sorted(list(KINDS)[: self.num_classes]))


def make_shapes(folder: Path, config: ShapesConfig) -> None:
    """Draws train/<class>/*.jpg, test/<class>/*.jpg, nuisances.csv and shapes.json into ``folder``.

    Nothing is done where the same images are already. The folder appears when it is complete; of two
    processes that make it at once, one's work is kept. Raises SourceError when the folder holds something else
    or cannot be written.
    """
    if (folder / KEYS).is_file():
        _check_keys(folder, config)
        return
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SourceError(f"{folder}: the folder is not empty and holds no shapes; choose another or empty it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _draw_splits(partial, config)
            os.chmod(partial, 0o755)  # mkdtemp's folder is the owner's alone
            _move_into_place(partial, folder, config)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SourceError(
            f"{folder}: the shapes cannot be written ({error.strerror}); choose another folder"
        ) from error


def _move_into_place(partial: Path, folder: Path, config: ShapesConfig) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / KEYS).is_file():
            raise
        _check_keys(folder, config)  # another process was first


def _check_keys(folder: Path, config: ShapesConfig) -> None:
    try:
        made = json.loads((folder / KEYS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder / KEYS}: the file cannot be read; remove {folder}, to have it made anew") from error
    if made == config.keys():
        return
    made = made if isinstance(made, dict) else {}
    odd = [
        f"{key} {made.get(key)} instead of {value}" for key, value in config.keys().items() if made.get(key) != value
    ]
    raise SourceError(
        f"{folder}: holds shapes that were made with {', '.join(odd)}; make these keys agree or choose another folder"
    )


def _draw_splits(folder: Path, config: ShapesConfig) -> None:
    classes = config.classes
    rows: list[dict[str, str]] = []
    for stream, (split, count) in enumerate(zip(SPLITS, (config.num_train, config.num_test))):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
        for index in range(count):
            # One random stream per image: a longer split begins with the images of a shorter one.
            random = np.random.default_rng((config.seed, stream, index))
            name = classes[index % len(classes)]
            image, nuisances = draw(name, config.image_size, random, rotation_degrees=config.rotation)
            relative = f"{split}/{name}/{index:06d}.jpg"
            image.save(folder / relative, quality=QUALITY)
            rows.append({"file": relative, "split": split, "class": name} | nuisances.row())
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / KEYS).write_text(json.dumps(config.keys(), indent=2) + "\n", encoding="utf-8")


def _read(folder: Path, config: ShapesConfig) -> Dataset:
    """The two splits, in the order of drawing."""
    folder = folder.absolute()
    files = {split: [] for split in SPLITS}  # type: dict[str, list[tuple[str, int]]]
    for split in SPLITS:
        for label, name in enumerate(config.classes):
            place = folder / split / name
            names = [entry.name for entry in os.scandir(place)] if place.is_dir() else []
            files[split] += [(f"{place}/{file}", label) for file in names if file.endswith(".jpg")]
        files[split].sort(key=lambda file: file[0].rsplit("/", 1)[1])
    for split, expected in zip(SPLITS, (config.num_train, config.num_test)):
        if len(files[split]) != expected:
            raise SourceError(
                f"{folder / split}: {len(files[split])} images are left of the {expected} that were made; "
                f"remove {folder}, to have them made anew"
            )
    train, test = (_image_set(folder, split, files[split], config.image_size) for split in SPLITS)
    return Dataset(name="shapes", classes=config.classes, train=train, test=test)


def _image_set(folder: Path, split: str, files: list[tuple[str, int]], image_size: int) -> ImageSet:
    values, attributes = read_targets(folder / TABLE, split, len(files), image_size)
    return ImageSet(
        labels=np.array([label for _, label in files], dtype=np.int64),
        sizes_HW=np.full((len(files), 2), image_size, dtype=np.int32),
        paths=tuple(path for path, _ in files),
        values=values,
        attributes=attributes,
    )
