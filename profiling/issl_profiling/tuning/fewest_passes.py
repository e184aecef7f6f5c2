"""The fewest forward passes per step (training.accumulation_steps) whose memory this machine has.

The batch of a step stays as it is: more passes are smaller ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

from issl_engine.mistakes import Mistake
from issl_profiling.tuning.trial import Trial, Unfit

SMALLEST = 2
"""Images per pass: batch-norm and losses need more than one."""

Try = Callable[[int], Trial | Unfit]
"""Trains with so many passes per step."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What was found: ``count`` passes per step with ``trial``, and why each smaller count did not do."""

    count: int
    trial: Trial
    refused: dict[int, str]


def possible_passes(images: int) -> list[int]:
    """Numbers of passes that cut ``images`` into equal parts of at least two, from 1 up."""
    return [count for count in range(1, images // SMALLEST + 1) if images % count == 0]


def fewest_passes(images: int, attempt: Try, *, limit_bytes: int | None) -> Passes:
    """``images``: of one rank and step. With ``limit_bytes`` (CPU) two small passes are measured first and larger ones
    only where the line through their memory stays below it; without (GPU), passes are tried until one fits.

    Raises Mistake when not even the smallest passes do.
    """
    counts = possible_passes(images)
    if not counts:
        raise Mistake(f"a step has {images} images per rank, and a forward pass needs at least {SMALLEST}")
    refused: dict[int, str] = {}
    tried: dict[int, Trial] = {}

    def fits(count: int) -> bool:
        result = attempt(count)
        if isinstance(result, Unfit):
            refused[count] = result.reason
            return False
        tried[count] = result
        if limit_bytes is not None and result.peak_bytes > limit_bytes:
            refused[count] = f"needs {_gib(result.peak_bytes)}, and {_gib(limit_bytes)} may be used"
            return False
        return True

    if limit_bytes is None:
        found = _by_doubling(counts, fits)
    else:
        found = _by_a_line(images, counts, fits, tried, refused, limit_bytes)
    if found is None:
        reason = refused[max(refused)]
        raise Mistake(
            f"not even passes of {images // counts[-1]} images can be trained here ({reason}); take a smaller encoder "
            "or smaller crops"
        )
    return Passes(count=found, trial=tried[found], refused={c: why for c, why in refused.items() if c < found})


def _by_doubling(counts: list[int], fits: Callable[[int], bool]) -> int | None:
    """The first of 1, 2, 4 ... passes that fits; then what lies between it and the one before, halving."""
    low, index = -1, 0
    while not fits(counts[index]):
        low = index
        if index == len(counts) - 1:
            return None
        index = next((i for i in range(index + 1, len(counts)) if counts[i] >= 2 * counts[index]), len(counts) - 1)
    high = index
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(counts[middle]) else (middle, high)
    return counts[high]


def _by_a_line(
    images: int,
    counts: list[int],
    fits: Callable[[int], bool],
    tried: dict[int, Trial],
    refused: dict[int, str],
    limit_bytes: int,
) -> int | None:
    """The smallest passes and those about four times as large tell what an image takes; the rest follows from it."""
    smallest = counts[-1]
    fourfold = next(count for count in counts if images // count <= max(4 * (images // smallest), SMALLEST))
    if not fits(smallest):
        return None
    if fourfold == smallest:
        return smallest
    fits(fourfold)
    if fourfold not in tried:  # it could not even be measured, so that there is no line
        return next(count for count in counts if count > fourfold and (count == smallest or fits(count)))
    few, more = images // smallest, images // fourfold
    per_image = max(0.0, (tried[fourfold].peak_bytes - tried[smallest].peak_bytes) / (more - few))
    for count in counts:
        expected = tried[fourfold].peak_bytes + per_image * (images // count - more)
        if count in tried and count not in refused:
            return count
        if count not in tried and expected <= limit_bytes and fits(count):
            return count
    return smallest


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
