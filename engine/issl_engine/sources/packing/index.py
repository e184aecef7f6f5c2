"""index.json, which lists the shards of a packed data set, and the tables of byte ranges beside them.

A shard train-000000.tar may have a table train-000000.json: with it a large data set starts without reading headers.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from issl_engine.sources.base import SourceError, listed
from issl_engine.sources.byte_ranges import file_stamp
from issl_engine.sources.shards.shard import Shard
from issl_engine.sources.shards.split_files import SplitFiles

_log = logging.getLogger("issl_engine")

FORMAT = 1
"""Version of both files."""
INDEX = "index.json"
STATE = "pack.json"
"""File in which packing keeps its state while it is under way."""
NAMED_AT_MOST = 5


def read_pack_index(folder: Path) -> SplitFiles | None:
    """None without index. Raises SourceError for shards that are missing or of another length than the index says."""
    path = folder / INDEX
    if not path.is_file():
        if (folder / STATE).is_file():
            raise SourceError(
                f"{path}: the index is missing, so packing has not finished; run the same issl-engine data pack again"
            )
        return None
    content = _content(path)
    files: dict[str, list[Path]] = {"train": [], "test": [], "pretrain": []}
    wrong = []
    for shard in content["shards"]:
        file = folder.absolute() / shard["file"]
        files[shard["split"]].append(file)
        if not file.is_file():
            wrong.append(f"{shard['file']} (missing)")
        elif (length := file.stat().st_size) != shard["bytes"]:
            wrong.append(f"{shard['file']} ({length} bytes instead of {shard['bytes']})")
    if wrong:
        raise SourceError(
            f"{path}: {len(wrong)} of its {len(content['shards'])} shards are not as it says: "
            f"{listed(wrong, at_most=NAMED_AT_MOST)}; put them back, or pack again"
        )
    for split in ("train", "test"):
        if not files[split]:
            raise SourceError(f"{path}: the index has no shard of split {split}; pack the data set again")
    return SplitFiles(
        train=files["train"],
        test=files["test"],
        pretrain=files["pretrain"] or None,
        name=content["name"],
        classes=tuple(content["classes"]),
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        splits = {shard["split"] for shard in content["shards"]}
        whole = (
            content["format"] == FORMAT
            and isinstance(content["name"], str)
            and all(isinstance(name, str) for name in content["classes"])
            and all(isinstance(shard["file"], str) and isinstance(shard["bytes"], int) for shard in content["shards"])
            and splits <= {"train", "test", "pretrain"}
        )
    except (OSError, ValueError, TypeError, LookupError):
        whole = False
    if not whole:
        raise SourceError(
            f"{path}: this is no index of packed shards of format {FORMAT}; pack again, or name the shards in "
            "source.train and source.test"
        )
    return content


def read_range_table(shard: Path) -> Shard | None:
    """None where the shard has no table that fits its length: it is scanned instead."""
    path = shard.with_suffix(".json")
    if not path.is_file() or not shard.is_file():
        return None
    stamp = file_stamp(str(shard))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fits = content["format"] == FORMAT and content["bytes"] == stamp[0]
        names, *columns = zip(*content["samples"], strict=True) if content["samples"] else [()] * 6
        starts, lengths, labels, heights, widths = (np.array(column, dtype=np.int64) for column in columns)
        sizes_HW = np.stack([heights, widths], axis=-1).astype(np.int32)
        inside = (starts >= 0) & (lengths >= 0) & (starts + lengths <= stamp[0]) & (sizes_HW.min(axis=-1) > 0)
        fits = fits and bool(inside.all()) and all(isinstance(name, str) for name in names)
    except (OSError, ValueError, TypeError, LookupError):
        fits = False
    if not fits:
        _log.info("%s: the table does not fit %s, which is scanned instead", path, shard.name)
        return None
    values, label_of = np.unique(labels[labels >= 0], return_inverse=True)
    places = np.full(len(labels), -1, dtype=np.int32)
    places[labels >= 0] = label_of
    return Shard(
        file=str(shard),
        stamp=stamp,
        names=names,
        starts=starts,
        lengths=lengths,
        label_of=places,
        labels=tuple(map(str, values.tolist())),
        titles=(),
        sizes_HW=sizes_HW,
    )
