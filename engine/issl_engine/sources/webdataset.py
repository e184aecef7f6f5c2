"""Tar shards in WebDataset's convention, such as issl-engine data pack writes them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from issl_engine.sources.formats.tar_samples import TarReader
from issl_engine.sources.packing.index import read_pack_index, read_range_table
from issl_engine.sources.shards.base import ShardedConfig
from issl_engine.sources.shards.scans import ShardScans
from issl_engine.sources.shards.shard import Shard
from issl_engine.sources.shards.split_files import SplitFiles


class WebDatasetConfig(ShardedConfig):
    """Tar shards, read at any place: no unpacking, and the order of an epoch is the engine's own permutation.

    A folder with an index.json needs no other key: shards, splits and classes are taken from it, unless train and test
    name shards.
    """

    name: Literal["webdataset"] = "webdataset"
    image_suffixes: Annotated[tuple[str, ...], Field(min_length=1)] = (
        *("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jp2", "ppm", "gif", "avif", "heic", "heif"),
    )
    """Members that hold an image, by all that follows the first dot of their name; of two in a sample the one that
    comes first here. The last four are not decoded: such images are named and counted."""
    label: Annotated[str, Field(pattern=r"^(json:.+|[^:/]+)$")] = "cls"
    """Member that holds the label, by its suffix: a whole number (below 0 for none) or a class's name, as text; or
    json:KEY for a key of the .json member."""

    def _split_files(self) -> SplitFiles:
        index = None if self.train or self.test else read_pack_index(self.folder)
        if index is None:
            return super()._split_files()
        return index if self.pretrain is None else replace(index, pretrain=self._pretrain_files())

    def _example(self, split: str) -> str:
        return f"{split}-000000.tar, and no index.json"

    def _is_shard(self, name: str) -> bool:
        return name.lower().endswith(".tar")

    def _label_hint(self) -> str:
        where = (
            f"key {self.label[5:]} of a .json member" if self.label.startswith("json:") else f"a .{self.label} member"
        )
        return f"{where}; name the member that holds it in source.label"

    def _scan(self, paths: list[Path]) -> list[Shard]:
        is_json = self.label.startswith("json:")
        reader = TarReader(
            image_suffixes=tuple(suffix.lower().removeprefix(".") for suffix in self.image_suffixes),
            label_suffix="json" if is_json else self.label.lower().removeprefix("."),
            label_key=self.label.removeprefix("json:") if is_json else None,
        )
        found = {path: self._table(path) for path in paths}
        scanned = [path for path, shard in found.items() if shard is None]
        scans = ShardScans(self.folder, repr(reader), reader.read).scan(scanned)
        shards = {path: shard for path, shard in found.items() if shard is not None}
        shards.update(zip(scanned, scans, strict=True))
        return [shards[path] for path in paths]

    def _table(self, path: Path) -> Shard | None:
        """A table beside the shard says what the defaults find."""
        fields = WebDatasetConfig.model_fields
        is_default = all(getattr(self, key) == fields[key].default for key in ("image_suffixes", "label"))
        return read_range_table(path) if is_default else None
