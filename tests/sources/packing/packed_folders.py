"""Images to pack, and what lies in a packed folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from issl_engine.sources.packing.pack import PackSettings

SMALL = PackSettings(shard_mib=1)


def save(path: Path, seed: int, size_HW: tuple[int, int], **settings: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_HW, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **settings)


def files(folder: Path) -> dict[str, bytes]:
    """Of every file but the lock, its content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".tar", ".json")}


def listed(folder: Path) -> Iterator[tuple[str, bytes, list[Any]]]:
    """(split, content, [label, height, width]) of every image, by the lists of samples."""
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        tar = (folder / shard["file"]).read_bytes()
        for _, start, length, *rest in json.loads((folder / shard["file"]).with_suffix(".json").read_text())["samples"]:
            yield shard["split"], tar[start : start + length], rest
