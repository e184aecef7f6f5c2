"""What an image has besides its class: numbers to predict, or attributes that it has or has not.

Letters: n images, T columns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """``values_NT`` float32 [n, T], NaN where a value is unknown; ``names`` of its T columns.

    In a table of attributes 1 means that the image has it, and 0 that it has not.
    """

    names: tuple[str, ...]
    values_NT: NDArray[np.float32]

    def __post_init__(self) -> None:
        assert self.values_NT.dtype == np.float32
        assert self.values_NT.ndim == 2
        assert self.values_NT.shape[1] == len(self.names) > 0

    def __len__(self) -> int:
        return len(self.values_NT)

    def subset(self, indices: NDArray[np.int64]) -> "TargetTable":
        """The images at ``indices``, in that order."""
        return TargetTable(names=self.names, values_NT=self.values_NT[indices])

    def joined(self, other: "TargetTable") -> "TargetTable":
        """These images, then the other's."""
        assert self.names == other.names
        return TargetTable(names=self.names, values_NT=np.concatenate([self.values_NT, other.values_NT]))
