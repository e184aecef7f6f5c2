"""Packing: the order of the images, the cut into shards, going on after an interruption, the index."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from issl_engine.random_streams import epoch_order
from issl_engine.sources.base import Dataset, ImageSet, SourceError, listed
from issl_engine.sources.images.digests import listing_digest
from issl_engine.sources.images.ordered_threads import map_in_order
from issl_engine.sources.packing.index import FORMAT, INDEX
from issl_engine.sources.packing.packed_sample import LeftOut, PackedSample, make_sample
from issl_engine.sources.packing.reencode import Reencoding
from issl_engine.sources.packing.shard_writer import PackedShard, ShardWriter, write_json
from issl_engine.sources.packing.state import PackState, Written, open_state

_log = logging.getLogger("issl_engine")

MIB = 2**20
NAMED_AT_MOST = 10
"""Images that a warning names."""

OnProgress = Callable[[int, int], None]
"""Called with the number of images done so far, and of all."""


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """``shard_mib``: most MiB of a shard; ``seed`` of the order of the images that training reads; ``reencoding``:
    which encoded images are not copied as they are."""

    shard_mib: int = 512
    seed: int = 0
    reencoding: Reencoding = field(default_factory=Reencoding)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What is in the folder: index.json's content, and the images that were left out, by the source or because they
    could not be decoded."""

    index: dict[str, Any]
    left_out: list[LeftOut]


def pack_dataset(
    dataset: Dataset, folder: Path, settings: PackSettings, *, on_progress: OnProgress | None = None
) -> Packed:
    """Packs ``dataset`` into ``folder``, or goes on with it.

    Raises SourceError for a folder with something else, for an image that is not as it was scanned, and where the
    folder cannot be written.
    """
    with _locked(folder):
        state = open_state(folder, _settings(dataset, settings))
        sets = _sets(dataset, settings.seed)
        total = sum(len(order) for _, _, order in sets)
        complete = {split: state.complete(split) for split, _, _ in sets}
        with _disk_errors(folder):
            state.save()  # before the first shard, so that an interruption at any moment finds the settings
        state.written = []
        progress = _Progress(total, on_progress)
        for split, images, order in sets:
            state.written += complete[split]
            used = sum(one.used for one in complete[split])
            progress.add(used)
            if used:
                _log.info("%s: %d of %d images of %s are packed already", folder, used, len(order), split)
            samples = map_in_order(partial(_sample, split, images, settings.reencoding), order[used:].tolist())
            with closing(samples), _disk_errors(folder):
                for written in _write_shards(folder, split, len(complete[split]), samples, settings, progress):
                    state.written.append(written)
                    state.save()
        with _disk_errors(folder):
            state.save()
            index = _index(dataset, settings, state)
            write_json(folder / INDEX, index)
    damaged = [one for written in state.written for one in written.left_out]
    if damaged:
        named = listed([f"{one.name} ({one.reason})" for one in damaged], at_most=NAMED_AT_MOST, between="; ")
        _log.warning("%s: left out %d images that cannot be decoded: %s", folder, len(damaged), named)
    corrupt = [LeftOut(name=str(file.path), reason=file.reason) for file in dataset.skipped]
    return Packed(index=index, left_out=corrupt + damaged)


def _sample(split: str, images: ImageSet, how: Reencoding, index: int) -> PackedSample | LeftOut:
    return make_sample(split, images, index, how)


def _settings(dataset: Dataset, settings: PackSettings) -> dict[str, Any]:
    """All that the bytes of the shards depend on."""
    how = settings.reencoding
    encodes = how != Reencoding() or not dataset.train.encoded
    return {
        "source": listing_digest(dataset),
        "shard-mib": settings.shard_mib,
        "seed": settings.seed,
        "max-side": how.smaller.shorter_side_px if how.smaller else None,
        "quality": how.smaller.quality if how.smaller else None,
        "background": list(how.background) if how.background else None,
        "Pillow": PIL.__version__ if encodes else None,
    }


def _sets(dataset: Dataset, seed: int) -> list[tuple[str, ImageSet, NDArray[np.int64]]]:
    """(split, images, order of writing). What training reads is shuffled, so that every shard is a mixture."""
    sets = [
        ("train", dataset.train, epoch_order(len(dataset.train), seed, epoch=0)),
        ("test", dataset.test, np.arange(len(dataset.test))),
    ]
    if dataset.pretrain is not None:
        sets.append(("pretrain", dataset.pretrain, epoch_order(len(dataset.pretrain), seed, epoch=0)))
    return sets


class _Progress:
    """Counts images over all splits."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total, self.done, self.on_progress = total, 0, on_progress

    def add(self, images: int) -> None:
        self.done += images
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


def _write_shards(
    folder: Path,
    split: str,
    first_number: int,
    samples: Iterator[PackedSample | LeftOut],
    settings: PackSettings,
    progress: _Progress,
) -> Iterator[Written]:
    """Yields each shard when it is complete."""
    number, sample = first_number, next(samples, None)
    while sample is not None:
        left_out: list[LeftOut] = []
        reencoded = 0
        with ShardWriter(folder / f"{split}-{number:06d}.tar", split, settings.shard_mib * MIB) as shard:
            while sample is not None:
                if isinstance(sample, LeftOut):
                    left_out.append(sample)
                elif shard.fits(sample):
                    shard.add(sample)
                    reencoded += sample.reencoded
                else:
                    break
                progress.add(1)
                sample = next(samples, None)
            published = shard.publish()
        used = published.samples + len(left_out)
        yield Written(shard=published, used=used, reencoded=reencoded, left_out=left_out)
        number += 1


def _index(dataset: Dataset, settings: PackSettings, state: PackState) -> dict[str, Any]:
    shards: list[PackedShard] = [written.shard for written in state.written]
    index: dict[str, Any] = {
        "format": FORMAT,
        "name": dataset.name,
        "classes": list(dataset.classes),
        "shards": [asdict(shard) for shard in shards],
    }
    how = settings.reencoding
    if how != Reencoding():
        background = {} if how.background is None else {"background": list(how.background)}
        smaller = {} if how.smaller is None else asdict(how.smaller)
        index["reencoded"] = smaller | background | {"images": sum(written.reencoded for written in state.written)}
    return index


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time packs into a folder; makes the folder."""
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceError(f"{folder}: another pack is at work in this folder; wait for it") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Raises SourceError, which names the folder, for an OSError in the block: full disk, no permission."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{folder}: cannot be written ({error.strerror or error}); mend that, and the same command goes on from "
            "the last complete shard"
        ) from error
