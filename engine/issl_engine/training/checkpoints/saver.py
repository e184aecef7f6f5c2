"""The checkpoints of one arm while it trains: the loop pays for copies to host memory, a thread does the rest."""

import logging
import time
from functools import partial
from pathlib import Path

import torch

from issl_engine import __version__
from issl_engine.objectives.base import Progress
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.keep import KeepRule, prune
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest, checkpoint_name
from issl_engine.training.checkpoints.snapshot import count_parameters, take_snapshot
from issl_engine.training.checkpoints.writer import CheckpointWrite, remove_left_overs
from issl_engine.training.deepspeed import Engine
from issl_engine.training.learner import Learner

_log = logging.getLogger("issl_engine")

LONG_WAIT_SECONDS = 0.5
CLOSING_SECONDS = 60.0


class CheckpointSaver:
    """Saves into ``folder``, at most one checkpoint at a time. Every rank has one, and calls it at the same steps.

    Checkpoints of ``keep_steps`` stay, whatever the recipe's rule says. Making it removes what a killed run
    left half written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: Recipe,
        seed: int,
        engine: Engine,
        learner: Learner,
        online_probe: OnlineProbe | None,
        ranks: Ranks,
        keep_steps: frozenset[int] = frozenset(),
    ) -> None:
        self.folder, self.recipe, self.seed, self.ranks = folder, recipe, seed, ranks
        self.engine, self.learner, self.online_probe = engine, learner, online_probe
        self._write: CheckpointWrite | None = None
        self._said_that_it_waits = False
        rule = recipe.checkpoint
        self._keep = KeepRule(
            newest=rule.keep, every_epochs=rule.keep_every_epochs, best=rule.keep_best, steps=keep_steps
        )  # fmt: skip
        self._remove_left_overs()

    @property
    def failed(self) -> bool:
        """Whether this rank's part of the write in flight has failed; the loop asks at each step, on all ranks
        together, and calls ``wait`` when it has on any."""
        return self._write is not None and self._write.failed

    def save(
        self, progress: Progress, *, seconds: float, finished: bool = False, online_top1: float | None = None
    ) -> Path:
        """Begins to write the checkpoint of this step and returns where it will be; ``wait`` says when it is there.

        Waits for the one before, and with ``checkpoint.asynchronous`` false for this one too. Raises CheckpointError.
        """
        self._wait_for_the_one_before(progress.step)
        started = time.perf_counter()
        snapshot = take_snapshot(self.engine, self.learner, self.online_probe, self.ranks)
        megabytes = sum(content.bytes for content in snapshot.values()) / 1e6
        _log.debug(
            "step %d: copied %.1f MB of the checkpoint to host memory in %.1f ms",
            progress.step, megabytes, 1000 * (time.perf_counter() - started),
        )  # fmt: skip
        manifest = partial(
            Manifest,
            step=progress.step,
            epoch=progress.epoch,
            finished=finished,
            world_size=self.ranks.world_size,
            zero_stage=self.engine.zero_stage,
            recipe=self.recipe.model_dump(mode="json"),
            seed=self.seed,
            seconds=seconds,
            online_top1=online_top1,
            parameters=count_parameters(self.learner),
            versions={"issl-engine": __version__, "torch": torch.__version__},
        )
        target = self.folder / checkpoint_name(progress.step)
        self._write = CheckpointWrite(
            target, snapshot, lambda files: manifest(files=files), rank=self.ranks.rank,
            world_size=self.ranks.world_size, when_complete=lambda: prune(self.folder, self._keep),
        )  # fmt: skip
        if not self.recipe.checkpoint.asynchronous:
            self.wait()
        return target

    def wait(self) -> None:
        """Returns when the checkpoint in flight is complete on the disk; every rank calls it.

        Raises CheckpointError on all ranks when any of them could not write its part.
        """
        write = self._write
        if write is None:
            return
        write.written.wait()
        self._raise_if_any_failed(write)  # before the first rank waits for files that will never come
        write.all_have_written()
        write.join()
        self._raise_if_any_failed(write)
        self._write = None

    def _raise_if_any_failed(self, write: CheckpointWrite) -> None:
        sentences = self.ranks.gather(None if write.error is None else self._sentence(write, write.error))
        failed = [sentence for sentence in sentences if sentence is not None]
        if not failed:
            return
        self._write = None
        write.cancel()
        if write.error is not None and not isinstance(write.error, OSError):
            raise write.error
        raise CheckpointError(failed[0]) from write.error

    def _sentence(self, write: CheckpointWrite, error: Exception) -> str:
        if isinstance(error, CheckpointError):
            return str(error)
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        where = f"rank {self.ranks.rank}: " if self.ranks.world_size > 1 else ""
        return (
            f"{write.target}: the checkpoint could not be written ({where}{reason}); earlier checkpoints are "
            "untouched: free space or mend the folder's permissions, then run again"
        )

    def close(self) -> None:
        """Lets a write in flight end, without the other ranks, which may have stopped anywhere; a minute at most."""
        write, self._write = self._write, None
        if write is None:
            return
        write.join(CLOSING_SECONDS)
        if not write.is_done:
            _log.warning("%s: left incomplete, as another rank did not write its part", write.target)
        write.cancel()
        if write.error is not None:
            _log.warning("%s", self._sentence(write, write.error))

    def _wait_for_the_one_before(self, step: int) -> None:
        started = time.perf_counter()
        self.wait()
        seconds = time.perf_counter() - started
        if seconds > LONG_WAIT_SECONDS and not self._said_that_it_waits:
            self._said_that_it_waits = True
            _log.info(
                "step %d: waited %.1f s for the checkpoint before to reach the disk; raise checkpoint.every_epochs",
                step, seconds,
            )  # fmt: skip

    def _remove_left_overs(self) -> None:
        """The first rank's work; the others wait for it, and hear of it when it fails."""
        reason = None
        if self.ranks.is_first:
            try:
                for path in remove_left_overs(self.folder):
                    _log.info("%s: removed; a run that was killed left it behind", path)
            except OSError as error:
                reason = (
                    f"{error.filename}: what a killed run left behind cannot be removed ({error.strerror}); mend the "
                    "folder's permissions"
                )
        reason = self.ranks.from_first(reason)
        if reason is not None:
            raise CheckpointError(reason)
