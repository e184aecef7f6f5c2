"""Features kept between runs, under what they are features of.

Nothing is taken by its name: an encoder that was trained on, an image that was replaced, another crop or another
version of the engine's features is another key.

Letters: N images, D width of the representation.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from issl_engine.cache import cache_folder
from issl_engine.probing.features.file import DamagedFileError, StoredType, read_features, write_features

_log = logging.getLogger("issl_engine")

FEATURE_VERSION = 1
"""Raise it whenever the same encoder, images and preprocessing would give other features."""


def default_feature_folder() -> Path:
    """$ISSL_ENGINE_CACHE/features, or ~/.cache/issl-engine/features. Not made here."""
    return cache_folder() / "features"


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """A folder of feature files, and of remembered digests of images in ``images``."""

    folder: Path
    stored: StoredType = "float32"
    """float16 halves the files; the features are rounded to 11 bits."""

    @property
    def image_digests(self) -> Path:
        """Where the digests of images are remembered."""
        return self.folder / "images"

    def find(self, key: dict[str, Any]) -> Tensor | None:
        """What was kept under ``key``: [n, d], mapped from its file; None where there is nothing, or a damaged file,
        which is reported."""
        path = self._path(key)
        try:
            return read_features(path)
        except FileNotFoundError:
            return None
        except DamagedFileError as damage:
            _log.warning("%s: %s; the features are made anew", path, damage)
            return None

    def keep(self, key: dict[str, Any], batches: Iterable[Tensor], count: int) -> Tensor:
        """Writes the ``count`` rows (float32 [b, d] a batch) as they come; [n, d], mapped from the file.

        Raises Mistake and OSError as write_features.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key)
        write_features(path, batches, count=count, stored=self.stored, key=self._whole(key))
        return read_features(path)

    def _whole(self, key: dict[str, Any]) -> dict[str, Any]:
        return {"version": FEATURE_VERSION, "stored": self.stored} | key

    def _path(self, key: dict[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(self._whole(key), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}.features"
