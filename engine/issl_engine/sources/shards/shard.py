"""What a scan knows of one file that holds many images: where each lies, its label, its size.

Letters: m samples of the file.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.byte_ranges import Stamp
from issl_engine.sources.formats.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The samples of one file, with sizes.

    ``file``: absolute name of the file that holds the bytes, and ``stamp`` its state; ``starts`` and ``lengths`` int64
    [m] in bytes; ``label_of`` int32 [m]: place in ``labels``, -1 for none; ``titles``: one class name per label,
    or none; ``sizes_HW`` int32 [m, 2] in pixels, upright; ``reasons``: place of a sample that is no image → why.
    """

    file: str
    stamp: Stamp
    names: tuple[str, ...]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    label_of: NDArray[np.int32]
    labels: tuple[str, ...]
    titles: tuple[str, ...]
    sizes_HW: NDArray[np.int32]
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.starts) == len(self.lengths) == len(self.label_of) == len(self.sizes_HW)
        assert len(self.titles) in (0, len(self.labels))

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> dict[str, Any]:
        """As plain lists."""
        return {
            "file": self.file,
            "stamp": self.stamp,
            "names": self.names,
            "starts": self.starts.tolist(),
            "lengths": self.lengths.tolist(),
            "label_of": self.label_of.tolist(),
            "labels": self.labels,
            "titles": self.titles,
            "sizes_HW": self.sizes_HW.tolist(),
            "reasons": list(self.reasons.items()),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Shard":
        """The inverse of to_json."""
        return Shard(
            file=content["file"],
            stamp=(content["stamp"][0], content["stamp"][1]),
            names=tuple(content["names"]),
            starts=np.array(content["starts"], dtype=np.int64),
            lengths=np.array(content["lengths"], dtype=np.int64),
            label_of=np.array(content["label_of"], dtype=np.int32),
            labels=tuple(content["labels"]),
            titles=tuple(content["titles"]),
            sizes_HW=np.array(content["sizes_HW"], dtype=np.int32).reshape(-1, 2),
            reasons=dict(content["reasons"]),
        )


def make_shard(file: str, stamp: Stamp, samples: list[Sample], sizes: list[tuple[int, int] | str]) -> Shard:
    """``sizes``: (height, width) of each sample, or why it is no image."""
    labels: dict[str, int] = {}
    titles: dict[str, str] = {}
    label_of = np.full(len(samples), -1, dtype=np.int32)
    for place, sample in enumerate(samples):
        if sample.label is not None:
            label_of[place] = labels.setdefault(sample.label, len(labels))
            titles.setdefault(sample.label, sample.title)
    return Shard(
        file=file,
        stamp=stamp,
        names=tuple(sample.name for sample in samples),
        starts=np.array([sample.start for sample in samples], dtype=np.int64),
        lengths=np.array([sample.length for sample in samples], dtype=np.int64),
        label_of=label_of,
        labels=tuple(labels),
        titles=tuple(titles.values()) if any(titles.values()) else (),
        sizes_HW=np.array([(0, 0) if isinstance(size, str) else size for size in sizes], dtype=np.int32).reshape(-1, 2),
        reasons={place: size for place, size in enumerate(sizes) if isinstance(size, str)},
    )
