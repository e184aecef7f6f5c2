"""What is made of the measurements: how close the whole is to its parts, how far ahead of other trainers."""

import os
from dataclasses import dataclass
from statistics import median

import torch

from issl_profiling.train.candidate import CACHED, ENCODER, HEADS, PLAIN, WHOLE
from issl_profiling.train.case import TrainCase
from issl_profiling.train.rounds import Rounds

CORES_OF_TARGET = 2


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """``applies`` is None where the target holds on this machine and for this recipe, else where it would."""

    name: str
    value: float
    target: float
    at_least: bool
    applies: str | None

    @property
    def verdict(self) -> str:
        """Such as ``target >= 0.95: met``."""
        target = f"target {'>=' if self.at_least else '<='} {self.target:g}"
        if self.applies is not None:
            return f"{target} does not apply here: it is for {self.applies}"
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return f"{target}: {'met' if met else 'missed'}"


def ratio_of_times(numerator: Rounds, denominator: Rounds) -> float:
    """Median of the rounds' ratios: a machine that slows down in one round slows both."""
    pairs = zip(numerator.seconds_per_step, denominator.seconds_per_step, strict=True)
    return median(a / b for a, b in pairs)


def ratios(case: TrainCase, rounds: list[Rounds]) -> list[Ratio]:
    """Those whose two sides were measured."""
    of_name = {found.candidate.name: found for found in rounds}
    gpu = torch.cuda.get_device_name(case.ranks.device) if case.ranks.device.type == "cuda" else None
    is_resnet50 = case.recipe.encoder.name == "resnet50"
    two_cores = gpu is None and len(os.sched_getaffinity(0)) == CORES_OF_TARGET
    found: list[Ratio] = []

    def add(name: str, slow: str, fast: str, target: float, unless: str | None, at_least: bool = True) -> None:
        """How much longer ``slow`` takes than ``fast``."""
        if slow in of_name and fast in of_name:
            value = ratio_of_times(of_name[slow], of_name[fast])
            found.append(Ratio(name=name, value=value, target=target, at_least=at_least, applies=unless))

    add("whole run / cached step, images/s", CACHED, WHOLE, 0.95, None)
    add("heads and loss / cached step, time", HEADS, CACHED, 0.05,
        None if is_resnet50 else "encoder resnet50", at_least=False)  # fmt: skip
    add("whole run / bare encoder, images/s", ENCODER, WHOLE, 0.90,
        None if gpu is not None and "H200" in gpu else "an H200")  # fmt: skip
    add("whole run / plain PyTorch, images/s", PLAIN, WHOLE, 1.5, None if two_cores else "2 CPU cores")
    return found


def by_name(rounds: list[Rounds], name: str) -> Rounds:
    """The one of this name."""
    return next(found for found in rounds if found.candidate.name == name)
