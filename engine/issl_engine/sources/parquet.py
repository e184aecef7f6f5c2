"""Parquet files that hold encoded images and their labels, as Hugging Face publishes data sets."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from issl_engine.sources.formats.parquet_samples import ParquetReader
from issl_engine.sources.formats.parquet_table import check_column, class_names, open_parquet
from issl_engine.sources.shards.base import ShardedConfig
from issl_engine.sources.shards.scans import ShardScans
from issl_engine.sources.shards.shard import Shard
from issl_engine.sources.shards.split_files import SplitFiles


class ParquetConfig(ShardedConfig):
    """Parquet files with a column of encoded images, as Hugging Face publishes them; copied once into the cache."""

    name: Literal["parquet"] = "parquet"
    image_column: str = "image"
    """Column of encoded images: binary, or a struct with a field bytes."""
    label_column: str = "label"
    """Column of labels: whole numbers (below 0 for none) or class names. Numbers are named as Hugging Face's metadata
    in the file do, if there are any."""

    def _split_files(self) -> SplitFiles:
        files = super()._split_files()
        for path in (files.train[0], files.test[0]):
            with open_parquet(path) as table:
                check_column(path, table.schema_arrow.names, self.label_column, "label_column")
        with open_parquet(files.train[0]) as table:
            return replace(files, classes=class_names(table.schema_arrow, self.label_column))

    def _example(self, split: str) -> str:
        return f"{'train' if split == 'train' else 'validation'}-00000-of-00010.parquet"

    def _is_shard(self, name: str) -> bool:
        return name.lower().endswith(".parquet")

    def _label_hint(self) -> str:
        return f"column '{self.label_column}'; name the column that holds it in source.label_column"

    def _scan(self, paths: list[Path]) -> list[Shard]:
        reader = ParquetReader(image_column=self.image_column, label_column=self.label_column)
        return ShardScans(self.folder, repr(reader), reader.read).scan(paths)
