"""Tiny ImageNet: 200 classes of 64 px JPEG files, in the layout of the published archive."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from issl_engine.sources.base import Dataset, SourceConfig, SourceError
from issl_engine.sources.formats.file_bytes import file_content
from issl_engine.sources.image_files.found import ClassFiles, FoundFiles, find_images
from issl_engine.sources.image_files.remembered_sizes import ImageSizes

HOME = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


class TinyImageNetConfig(SourceConfig):
    """Tiny ImageNet: train/<wnid>/images/*.JPEG, and val/images/*.JPEG with val/val_annotations.txt."""

    name: Literal["tiny_imagenet"] = "tiny_imagenet"
    folder: Path
    """Folder of the unpacked archive, tiny-imagenet-200; its val/ plays the test split, as test/ has no labels."""
    max_corrupt_files: Annotated[int, Field(ge=0)] = 10
    """More unreadable image files than this are an error; fewer are named, counted and left out."""

    def load(self) -> Dataset:
        return self._find().dataset(max_corrupt_files=self.max_corrupt_files)

    def survey(self) -> Dataset:
        return self._find().survey()

    def _find(self) -> FoundFiles:
        train, val = self.folder / "train", self.folder / "val"
        for place in (train, val / "images"):
            if not place.is_dir():
                raise SourceError(f"source.folder: {place} is missing; unpack {HOME} and name tiny-imagenet-200")
        wnids = tuple(sorted(entry.name for entry in train.iterdir() if entry.is_dir() and entry.name[0] != "."))
        if not wnids:
            raise SourceError(f"{train}: there are no class folders in it; unpack {HOME} again")
        sizes = ImageSizes(self.folder)
        found = FoundFiles(
            folder=self.folder,
            classes=self._class_names(wnids),
            train=[find_images(train / wnid / "images", sizes) for wnid in wnids],
            test=self._validation(val, wnids, sizes),
        )
        sizes.save()
        return found

    def _validation(self, val: Path, wnids: tuple[str, ...], sizes: ImageSizes) -> list[ClassFiles]:
        """The files that the annotations name, by class; no other file is taken."""
        table = val / "val_annotations.txt"
        members: dict[str, list[str]] = {wnid: [] for wnid in wnids}
        for number, line in enumerate(_lines(table), start=1):
            name, wnid = [*line.split("\t"), ""][:2]
            if wnid not in members:
                raise SourceError(f"{table}, line {number}: '{wnid}' is no class folder of train/; unpack {HOME} again")
            members[wnid].append(str((val / "images" / name).absolute()))
        return [
            ClassFiles(place=f"{table}, class {wnid}", files=list(sizes.look_up(sorted(paths))))
            for wnid, paths in members.items()
        ]

    def _class_names(self, wnids: tuple[str, ...]) -> tuple[str, ...]:
        """The first word of each class in words.txt; with the WordNet number where two classes share it."""
        words = dict(line.split("\t", 1) for line in _lines(self.folder / "words.txt") if "\t" in line)
        missing = [wnid for wnid in wnids if wnid not in words]
        if missing:
            raise SourceError(f"{self.folder / 'words.txt'}: has no line for {missing[0]}; unpack {HOME} again")
        first = {wnid: words[wnid].split(",")[0].strip() for wnid in wnids}
        uses = Counter(first.values())
        return tuple(name if uses[name] == 1 else f"{name} ({wnid})" for wnid, name in first.items())


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise SourceError(f"source.folder: {path} is missing; unpack {HOME} again")
    return [line for line in file_content(path).decode("utf-8", "replace").splitlines() if line.strip()]
