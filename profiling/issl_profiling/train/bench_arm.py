"""One arm measured: who takes part, the rounds, what is made of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from issl_profiling.train.candidate import Candidate, LeftOut
from issl_profiling.train.case import TrainCase
from issl_profiling.train.lightly_trainer import lightly_candidate
from issl_profiling.train.our_parts import our_candidates
from issl_profiling.train.plain import plain_candidate
from issl_profiling.train.ratios import Ratio, ratios
from issl_profiling.train.rounds import Rounds, measure

SOLO_LEARN = LeftOut(
    name="solo-learn",
    reason="cannot be installed beside ours: 1.0.2, the newest on PyPI, requires torch 1.9.1, torchvision 0.10.1 and "
    "pytorch-lightning 1.4.7",
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One arm's rounds, its ratios, and the trainers without a number."""

    rounds: list[Rounds]
    ratios: list[Ratio]
    left_out: list[LeftOut]


def bench_arm(
    case: TrainCase, *, rounds: int, steps: int, with_peers: bool, on_round: Callable[[int, Candidate], None]
) -> Measured:
    """Raises Mistake as pretraining does."""
    if case.recipe.training.threads:
        torch.set_num_threads(case.recipe.training.threads)
    candidates, flops = our_candidates(case)
    others: list[Candidate | LeftOut] = [plain_candidate(case, flops)]
    if with_peers:
        others += [lightly_candidate(case), SOLO_LEARN]
    candidates += [other for other in others if isinstance(other, Candidate)]
    found = measure(candidates, rounds=rounds, steps=steps, device=case.ranks.device, on_round=on_round)
    return Measured(
        rounds=found, ratios=ratios(case, found),
        left_out=[other for other in others if isinstance(other, LeftOut)],
    )  # fmt: skip
