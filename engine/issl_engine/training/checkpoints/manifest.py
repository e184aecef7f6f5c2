"""What a checkpoint says of itself: manifest.json, written last, beside the files that it counts."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from issl_engine.mistakes import Mistake

FORMAT = 2
MANIFEST = "manifest.json"


class CheckpointError(Mistake):
    """A checkpoint that cannot be used or written: one sentence that names it and says what to do."""


class OtherFormatError(CheckpointError):
    """A checkpoint of another version: whole perhaps, but not to be read here, and never to be passed over."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """``files`` maps names to size and checksum, ``parameters`` parts of the learner to their numbers of weights.

    ``online_top1`` is the online probe's accuracy in percent, the mean over the steps since the checkpoint before, or
    None without such a probe. ``seconds`` of training so far; ``versions`` of the libraries that wrote it; ``created``
    is UTC.
    """

    step: int
    epoch: float
    finished: bool
    world_size: int
    zero_stage: int
    recipe: dict[str, Any]
    seed: int
    seconds: float
    online_top1: float | None
    parameters: dict[str, int]
    files: dict[str, FileRecord]
    versions: dict[str, str]
    created: str = field(default_factory=_now)
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        return sum(record.bytes for record in self.files.values())

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read_manifest(checkpoint: Path) -> Manifest:
    """Raises OtherFormatError for a checkpoint of another version, CheckpointError when the folder is no checkpoint or
    its manifest cannot be read."""
    path = checkpoint / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{checkpoint}: this is no checkpoint (it has no {MANIFEST})")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise OtherFormatError(
                f"{checkpoint}: written in checkpoint format {record['format']}, and this version reads {FORMAT}; "
                "use the version that wrote it, or another --out to begin anew"
            )
        files = {name: FileRecord(**entry) for name, entry in record.pop("files").items()}
        return Manifest(**record, files=files)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint}: {MANIFEST} is damaged") from error
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: {MANIFEST} cannot be read ({error.strerror or error})") from error


def checkpoint_name(step: int) -> str:
    """The folder of a step's checkpoint; names sort as steps do."""
    return f"step_{step:08d}"


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints in a ``checkpoints`` folder, oldest first, whole or not."""
    return sorted(path for path in folder.glob("step_*") if path.is_dir())
