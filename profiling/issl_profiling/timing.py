"""What every measurement of time needs: the device's work done, and the spread of what was measured again and again."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple

import torch


class Spread(NamedTuple):
    """Of repeated measurements, in their unit."""

    median: float
    p20: float
    p80: float


def spread(values: Sequence[float]) -> Spread:
    """Median and 20th and 80th percentiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    fifths = quantiles(values, n=5, method="inclusive")
    return Spread(median(values), fifths[0], fifths[3])


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
