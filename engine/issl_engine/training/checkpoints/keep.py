"""Which checkpoints stay when a new one is complete."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from issl_engine.training.checkpoints.layout import discard
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest, OtherFormatError, checkpoint_folders
from issl_engine.training.checkpoints.verify import check_sizes

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class KeepRule:
    """The ``newest`` last ones stay; with ``every_epochs`` the first at or after each multiple of so many epochs; with
    ``best`` the one whose online probe was best (of equal ones the first)."""

    newest: int
    every_epochs: float | None = None
    best: bool = False
    steps: frozenset[int] = frozenset()
    """Those of these steps stay too."""

    def kept(self, manifests: list[Manifest]) -> set[int]:
        """The steps, of those of whole checkpoints in the order of their steps, that stay."""
        kept = {manifest.step for manifest in manifests[-self.newest :]}
        kept |= {manifest.step for manifest in manifests if manifest.step in self.steps}
        if self.every_epochs is not None:
            first_of: dict[int, int] = {}
            for manifest in manifests:
                # an epoch is a quotient of steps: 2.9999999999 of them are 3
                first_of.setdefault(math.floor(manifest.epoch / self.every_epochs + 1e-9), manifest.step)
            kept |= {step for number, step in first_of.items() if number > 0}
        scored = [manifest for manifest in manifests if manifest.online_top1 is not None]
        if self.best and scored:
            kept.add(max(scored, key=lambda manifest: (manifest.online_top1, -manifest.step)).step)
        return kept


def plan_pruning(
    folder: Path, rule: KeepRule, *, check: Callable[[Path], Manifest] = check_sizes
) -> tuple[list[Path], list[Path]]:
    """(checkpoints that stay, checkpoints that go), oldest first; the newest whole one always stays.

    Those for which ``check`` raises CheckpointError are damaged and count for nothing: they go where a newer whole one
    is, and stay where none is. Those of another version stay.
    """
    folders = checkpoint_folders(folder)
    whole: dict[Path, Manifest] = {}
    foreign: set[Path] = set()
    for path in folders:
        try:
            whole[path] = check(path)
        except OtherFormatError:
            foreign.add(path)
        except CheckpointError:
            continue
    kept = rule.kept(list(whole.values()))
    newest_whole = max(whole, default=None)
    stay = [
        path
        for path in folders
        if path in foreign
        or (path in whole and whole[path].step in kept)
        or (path not in whole and (newest_whole is None or path > newest_whole))
    ]
    return stay, [path for path in folders if path not in stay]


def prune(folder: Path, rule: KeepRule) -> None:
    """Deletes what the rule lets go. What cannot be deleted is named in a warning: the new checkpoint is complete."""
    for path in plan_pruning(folder, rule)[1]:
        try:
            discard(path)
        except OSError as error:
            _log.warning("%s: this older checkpoint could not be deleted (%s)", path, error.strerror or error)
