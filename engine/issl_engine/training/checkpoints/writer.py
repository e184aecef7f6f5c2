"""One checkpoint on its way to the disk: written aside by a thread of every rank, complete once the first renames it.

partial folder                          the first rank                            every rank
--------------                          --------------                            ----------
.partial_step_00000120/rank0001...                                                writes and syncs its files
.partial_step_00000120/.written0001     waits for those of all ranks              lists its files: sizes, checksums
.partial_step_00000120/manifest.json    writes and syncs it, then renames

Threads of different ranks speak through the folder alone; a collective among the loop's would mix with them.
"""

import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from issl_engine.training.checkpoints.layout import PARTIAL, is_left_over, set_aside
from issl_engine.training.checkpoints.manifest import MANIFEST, CheckpointError, FileRecord, Manifest
from issl_engine.training.checkpoints.snapshot import Snapshot
from issl_engine.training.checkpoints.tensor_file import write_tensor_file
from issl_engine.whole_file import sync

_log = logging.getLogger("issl_engine")

SECONDS_BETWEEN_LOOKS = 0.02
SECONDS_UNTIL_SEEN = 120.0
"""How long a file system may take to show one host what another has written."""

CompleteManifest = Callable[[dict[str, FileRecord]], Manifest]
"""The manifest, once the files are known."""


class CheckpointWrite:
    """Starts to write at once. ``written`` is set when this rank's part is on the disk, or has failed: then ``error``
    says why."""

    def __init__(
        self,
        target: Path,
        snapshot: Snapshot,
        manifest: CompleteManifest,
        *,
        rank: int,
        world_size: int,
        when_complete: Callable[[], None],
    ) -> None:
        self.target, self.rank, self.world_size = target, rank, world_size
        self.partial = target.with_name(PARTIAL + target.name)
        self.written = threading.Event()
        self.error: Exception | None = None
        self._snapshot, self._manifest, self._when_complete = snapshot, manifest, when_complete
        self._cancelled = threading.Event()
        self._seen_until, self._started = math.inf, time.perf_counter()
        self._thread = threading.Thread(target=self._run, name=f"checkpoint {target.name}", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def all_have_written(self) -> None:
        """Says that every rank has set ``written`` without error: the first rank must soon see their files, or fails
        with a CheckpointError."""
        self._seen_until = time.monotonic() + SECONDS_UNTIL_SEEN

    def join(self, timeout_seconds: float | None = None) -> None:
        """Waits until nothing is left to do on this rank: on the first, until the checkpoint is complete."""
        self._thread.join(timeout_seconds)

    def cancel(self) -> None:
        """Stops waiting for other ranks."""
        self._cancelled.set()
        self._thread.join()

    def _run(self) -> None:
        self._attempt(self._write_own_files)
        self._snapshot = {}  # its memory
        self.written.set()
        if self.rank == 0 and not self.failed:
            self._attempt(self._complete)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the loop raises it, on all ranks, between two steps
            self.error = error

    def _write_own_files(self) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)
        records = {name: write_tensor_file(self.partial / name, content) for name, content in self._snapshot.items()}
        report = _report(self.partial, self.rank)
        unfinished = report.with_name(f"{report.name}.unfinished")
        unfinished.write_text(json.dumps({name: asdict(record) for name, record in records.items()}), encoding="utf-8")
        unfinished.rename(report)

    def _complete(self) -> None:
        reports = [_report(self.partial, rank) for rank in range(self.world_size)]
        while missing := [rank for rank, report in enumerate(reports) if not report.exists()]:
            if self._cancelled.wait(SECONDS_BETWEEN_LOOKS):
                return
            if time.monotonic() > self._seen_until:
                raise CheckpointError(
                    f"{self.target}: rank {missing[0]} has written its part, but the first rank does not see it; "
                    "choose an --out on a file system that all hosts share"
                )
        files = {
            name: FileRecord(**record)
            for report in reports
            for name, record in json.loads(report.read_text(encoding="utf-8")).items()
        }
        for report in reports:
            report.unlink()
        path = self.partial / MANIFEST
        path.write_text(self._manifest(dict(sorted(files.items()))).as_json(), encoding="utf-8")
        sync(path)
        publish(self.partial, self.target)
        _log.debug("%s: on the disk after %.2f s", self.target, time.perf_counter() - self._started)
        self._when_complete()


def publish(partial: Path, target: Path) -> None:
    """Makes a folder whose files are on the disk the checkpoint; an older one in its place is deleted after that."""
    sync(partial)
    aside = set_aside(target) if target.exists() else None
    os.rename(partial, target)
    sync(target.parent)
    if aside is not None:
        shutil.rmtree(aside)


def remove_left_overs(folder: Path) -> list[Path]:
    """Deletes the folders that a killed run left half written or half deleted; returns them."""
    found = [path for path in folder.glob(".*") if path.is_dir() and is_left_over(path)]
    for path in found:
        shutil.rmtree(path)
    return found


def _report(partial: Path, rank: int) -> Path:
    return partial / f".written{rank:04d}"
