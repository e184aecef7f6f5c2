"""What has been packed so far and with which settings: pack.json, from which an interrupted pack goes on."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from issl_engine.sources.base import SourceError
from issl_engine.sources.packing.index import STATE
from issl_engine.sources.packing.packed_sample import LeftOut
from issl_engine.sources.packing.shard_writer import PackedShard, write_json

FORMAT = 1
"""Version of pack.json and of the shards: raise it whenever the same source gives other bytes."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A complete shard, and how many images of its split it used up; those left out among them."""

    shard: PackedShard
    used: int
    reencoded: int
    left_out: list[LeftOut]


@dataclass(kw_only=True)
class PackState:
    """The folder's settings, and its complete shards in the order of writing."""

    folder: Path
    settings: dict[str, Any]
    written: list[Written] = field(default_factory=list)

    def save(self) -> None:
        """Raises OSError."""
        content = {"format": FORMAT, "settings": self.settings, "written": [asdict(one) for one in self.written]}
        write_json(self.folder / STATE, content)

    def complete(self, split: str) -> list[Written]:
        """The shards of a split that need not be written again: those before the first that is not as it was."""
        found = []
        for one in self.written:
            if one.shard.split == split:
                if not is_there(self.folder, one.shard):
                    break
                found.append(one)
        return found


def is_there(folder: Path, shard: PackedShard) -> bool:
    """Whether a shard has the right length and its list the right number of samples; contents are not looked at."""
    path = folder / shard.file
    if not path.is_file() or path.stat().st_size != shard.bytes:
        return False
    try:
        listed = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return bool(listed["bytes"] == shard.bytes and len(listed["samples"]) == shard.samples)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_state(folder: Path, settings: dict[str, Any]) -> PackState:
    """Of a new folder, or of one where the same source was being packed with the same settings. Raises SourceError
    for any other folder."""
    path = folder / STATE
    if not path.is_file():
        strange = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != ".")
        if strange:
            raise SourceError(
                f"{folder}: the folder is not empty ({strange[0]}) and no pack was begun in it; choose another --out"
            )
        return PackState(folder=folder, settings=settings)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        earlier = {"format": content["format"]} | content["settings"]
        written = [_written(one) for one in content["written"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: the file cannot be read; choose another --out, or empty the folder") from error
    now = {"format": FORMAT} | settings
    # A setting that an older version does not know is None there.
    odd = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    if not odd:
        return PackState(folder=folder, settings=settings, written=written)
    if "source" in odd:
        raise SourceError(
            f"{folder}: another source was packed here, or this one has changed since; choose another --out, or empty "
            "the folder"
        )
    differing = ", ".join(f"{key} {_shown(earlier.get(key))} there and {_shown(now.get(key))} here" for key in odd)
    raise SourceError(
        f"{folder}: was packed with other settings ({differing}); make them agree, choose another --out, or empty the "
        "folder"
    )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _written(stored: dict[str, Any]) -> Written:
    return Written(
        shard=PackedShard(**stored["shard"]),
        used=stored["used"],
        reencoded=stored["reencoded"],
        left_out=[LeftOut(**one) for one in stored["left_out"]],
    )
