"""Rounds in which candidates take turns, so that all meet the same machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from issl_profiling.process_memory import PeakMemory
from issl_profiling.timing import wait_for
from issl_profiling.train.candidate import Candidate, Shares


@dataclass(kw_only=True)
class Rounds:
    """What the rounds of one candidate found, one entry per round."""

    candidate: Candidate
    seconds_per_step: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)


def measure(
    candidates: list[Candidate], *, rounds: int, steps: int, device: torch.device,
    on_round: Callable[[int, Candidate], None],
) -> list[Rounds]:  # fmt: skip
    """In every round each candidate is started, warmed up, timed for ``steps`` steps and closed: none works, or holds
    memory, while another is timed. Raises what the candidates raise."""
    found = [Rounds(candidate=candidate) for candidate in candidates]
    for number in range(rounds):
        for of_candidate in found:
            on_round(number, of_candidate.candidate)
            _one_round(of_candidate, steps, device)
    return found


def _one_round(found: Rounds, steps: int, device: torch.device) -> None:
    memory = PeakMemory(device)
    memory.reset()
    work = found.candidate.start()
    try:
        for _ in range(found.candidate.warmup_steps):
            work.step()
        wait_for(device)
        work.start_of_timing()
        started = time.perf_counter()
        for _ in range(steps):
            work.step()
        wait_for(device)
        found.seconds_per_step.append((time.perf_counter() - started) / steps)
        found.peak_mib.append(memory.peak_mib())
        shares = work.shares()
        if shares is not None:
            found.shares.append(shares)
    finally:
        work.close()
