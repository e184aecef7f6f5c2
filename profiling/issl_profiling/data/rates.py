"""Images per second of loaders that take turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from issl_profiling.data.cases import DataCase
from issl_profiling.data.loaders import Candidate
from issl_profiling.timing import Spread, spread

SECONDS_PER_ROUND = 2.0
"""Time that a loader gets in each round: enough batches are taken for it."""
BATCHES_AT_LEAST = 4


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Images per second of one candidate: one value per round."""

    candidate: Candidate
    values: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """Over the rounds."""
        return spread(self.values)

    @property
    def milliseconds_per_image(self) -> float:
        return 1000 / self.spread.median


def measure_rates(
    case: DataCase, candidates: list[Candidate], *, rounds: int, on_round: Callable[[int, Candidate], None]
) -> list[Rate]:
    """In every round each candidate is started, warmed up, timed and closed, so that none works while another is timed.

    Raises what the loaders raise.
    """
    values: list[list[float]] = [[] for _ in candidates]
    for number in range(rounds):
        for candidate, found in zip(candidates, values, strict=True):
            on_round(number, candidate)
            found.append(_images_per_second(case.batch_size, candidate, seed=number))
    return [Rate(candidate=one, values=tuple(found)) for one, found in zip(candidates, values, strict=True)]


def _images_per_second(batch_size: int, candidate: Candidate, *, seed: int) -> float:
    loader = candidate.start(seed)
    try:
        for _ in range(candidate.warmup_batches):
            next(loader)
        started, batches, seconds = time.perf_counter(), 0, 0.0
        while seconds < SECONDS_PER_ROUND or batches < BATCHES_AT_LEAST:
            next(loader)
            batches, seconds = batches + 1, time.perf_counter() - started
        return batches * batch_size / seconds
    finally:
        loader.close()
