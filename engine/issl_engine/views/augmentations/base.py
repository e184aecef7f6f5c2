"""What every augmentation has, and what its draws are made of.

Letters: B images of a batch, U uniform numbers per image and view.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from issl_engine.views.noise_field import NoiseField

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Uniforms = NDArray[np.float64]
Arrays = dict[str, NDArray[Any] | None]
"""Name → an array of B rows, or None where the settings leave nothing to do for it."""

SHARED_COLUMNS = 32
"""Of the stream VIEWS, per view: crop, flip, colours, blur and solarisation have shared it from the start."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """``count`` uniform numbers per image and view, from the column ``first`` on of the stream of ``purpose``.

    A new augmentation takes a purpose that no other has (from FIRST_OWN_PURPOSE on), so that the numbers of all others
    stay.
    """

    purpose: int
    count: int
    first: int = 0

    @property
    def end(self) -> int:
        return self.first + self.count


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """One view of each of the B images of a batch, before anything is drawn for it.

    ``sizes_HW``: int32 [B, 2], the images' heights and widths in pixels; ``size``: side of the crop in pixels;
    ``channels``: 1 or 3; ``streams``: purpose → uniform numbers [B, U]; ``noise_field`` returns the run's field.
    """

    sizes_HW: NDArray[np.int32]
    size: int
    channels: int
    streams: Mapping[int, Uniforms]
    noise_field: Callable[[], NoiseField]

    def uniforms(self, columns: Columns) -> Uniforms:
        """[B, count] numbers in [0, 1)."""
        numbers_BU = self.streams[columns.purpose][:, columns.first : columns.end]
        assert numbers_BU.shape[1] == columns.count, f"{columns} were not drawn"
        return numbers_BU


class Transform(ABC):
    """One thing that happens to a crop, with its settings."""

    @property
    @abstractmethod
    def columns(self) -> tuple[Columns, ...]:
        """All the uniform numbers that ``arrays`` asks for."""

    @abstractmethod
    def arrays(self, batch: ViewBatch) -> Arrays:
        """What the DALI function takes, by the names of its keyword arguments.

        The names are always the same. Which of them are None depends on settings and channels alone; where all are,
        the graph leaves the transform out.
        """

    @abstractmethod
    def legend(self) -> str:
        """What a contact sheet says of it; empty for nothing."""


def within(limits: Range, uniform: Uniforms) -> Uniforms:
    """Uniform numbers in [0, 1) stretched to the range."""
    low, high = limits
    return low + (high - low) * uniform
