"""TFRecord files of tf.train.Example, ImageNet's and others', without TensorFlow."""

import re
from pathlib import Path
from typing import Literal

from issl_engine.sources.formats.tfrecord_samples import TFRecordReader
from issl_engine.sources.shards.base import ShardedConfig
from issl_engine.sources.shards.scans import ShardScans
from issl_engine.sources.shards.shard import Shard

FILE_NAME = re.compile(r".*\.(tfrecords?|tfrec)([-._].*)?|.*-\d{2,}-of-\d{2,}", re.IGNORECASE)
"""Files of ImageNet have no suffix, such as train-00000-of-01024."""
NO_RECORDS = (".idx", ".index", ".json", ".txt")
"""Suffixes of files that lie beside the records and hold none."""


class TFRecordConfig(ShardedConfig):
    """TFRecord files, read at any place: the order of an epoch is the engine's own permutation."""

    name: Literal["tfrecord"] = "tfrecord"
    image_feature: str = "image/encoded"
    """Feature that holds the encoded image."""
    label_feature: str = "image/class/label"
    """Feature that holds the label: a whole number (below 0 for none) or a class's name."""
    label_offset: int = 0
    """Subtracted from labels that are numbers: 1 for ImageNet's files, which count from 1."""
    class_feature: str | None = None
    """Feature that holds the name of the label's class, such as image/class/synset; null for none."""

    def _example(self, split: str) -> str:
        return f"{'train' if split == 'train' else 'validation'}-00000-of-01024 or {split}.tfrecord"

    def _is_shard(self, name: str) -> bool:
        return FILE_NAME.fullmatch(name) is not None and not name.lower().endswith(NO_RECORDS)

    def _label_hint(self) -> str:
        return f"feature '{self.label_feature}'; name the feature that holds it in source.label_feature"

    def _scan(self, paths: list[Path]) -> list[Shard]:
        reader = TFRecordReader(
            image_feature=self.image_feature,
            label_feature=self.label_feature,
            label_offset=self.label_offset,
            class_feature=self.class_feature,
        )
        return ShardScans(self.folder, repr(reader), reader.read).scan(paths)
