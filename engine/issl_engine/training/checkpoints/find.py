"""Where checkpoints are: a path that a user gives may be one of them, or the folder of an arm or of a run."""

from collections.abc import Collection
from pathlib import Path

from issl_engine.layout import CHECKPOINTS
from issl_engine.training.checkpoints.manifest import MANIFEST, CheckpointError, checkpoint_folders
from issl_engine.training.checkpoints.verify import latest_checkpoint


def find_checkpoints(path: Path) -> list[Path]:
    """The checkpoint itself, or all of an arm or a run, oldest first in each arm. Raises CheckpointError."""
    _check_is_folder(path)
    if (path / MANIFEST).exists() or path.parent.name == CHECKPOINTS:
        return [path]
    return [checkpoint for folder in arm_folders(path) for checkpoint in checkpoint_folders(folder)]


def arm_folders(path: Path) -> list[Path]:
    """The ``checkpoints`` folders of an arm or of a run that hold any. Raises CheckpointError when there is none."""
    _check_is_folder(path)
    below = [folder for pattern in ("", "*/", "*/*/") for folder in sorted(path.glob(f"{pattern}checkpoints"))]
    candidates = [path] if path.name == CHECKPOINTS else below
    found = [folder for folder in candidates if checkpoint_folders(folder)]
    if not found:
        raise CheckpointError(
            f"{path}: no checkpoint is here; give a checkpoint (…/checkpoints/step_…), or the folder of an arm or a run"
        )
    return found


def resolve_checkpoint(path: Path, *, only: Collection[str] | None = None) -> Path:
    """A checkpoint folder as it is; of a run's arm folder its newest whole checkpoint. Raises CheckpointError."""
    _check_is_folder(path)
    if not (path / CHECKPOINTS).is_dir():
        return path
    found = latest_checkpoint(path / CHECKPOINTS, only=only)
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint was written here yet")
    return found


def checkpoint_if_any(path: Path, *, only: Collection[str] | None = None) -> Path | None:
    """As ``resolve_checkpoint``; None where the path holds no checkpoint at all."""
    if not (path / MANIFEST).is_file() and not (path / CHECKPOINTS).is_dir():
        return None
    return resolve_checkpoint(path, only=only)


def _check_is_folder(path: Path) -> None:
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give a checkpoint (…/checkpoints/step_…) or a run's arm")
