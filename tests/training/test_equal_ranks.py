"""Two and four ranks compute what one computes with all images: losses and weights over 20 steps, for every objective.

Equality is judged twice. In fp64, where DeepSpeed has no reduction and the gradients' means are written out, rounding
is out of the way, and what is left is whether every sum goes over all ranks. In fp32 the steps are DeepSpeed's, with
ZeRO 0, 1 and 2; sums over ranks round otherwise than sums on one, so a weight may differ by 5e-6 (of its tensor's
largest, where that is above 1), or by a few times the most that one rank differs from itself under several roundings:
with the images of each pass in another order, or with every weight nudged to a neighbouring number. The order alone
says too little: Barlow Twins under AdamW, whose first step divides each gradient by its own size, differs several times
as much with nudged weights. A ReLU's kink would make all of this a matter of luck (2 of 24 roundings of SwAV crossed
one), so networks in fp32 have GELU instead (``make_smooth``); those in fp64 keep ReLU. A kink also made much of true
inequalities: without it, 1e-3 of one rank's share of a Sinkhorn sum is 7e-6 in the weights.

One rank makes as many forward passes a step as each of the ranks do: batch-norm and most losses see the images of one
pass. Where the loss is a mean over images and batch-norm is frozen, and with exact accumulation, one rank makes one.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from issl_engine.ranks import start_ranks
from issl_engine.views.batch import MultiCropBatch

from .equality import OBJECTIVES, Case, make_batches, run, run_all

MEANS_OVER_IMAGES = ("byol", "simsiam")

FP32 = {
    2: [
        Case(objective="simclr", optimizer="larc", zero_stage=1),
        Case(objective="cissl", optimizer="adamw", zero_stage=2, batch_norm="frozen"),
        Case(objective="swav", optimizer="larc", zero_stage=2),
        Case(objective="swav_in_blocks", optimizer="adamw", zero_stage=1, accumulation=4, batch_norm="frozen", steps=8),
        Case(objective="dino", optimizer="adamw", zero_stage=2),
        Case(objective="dissl", optimizer="larc", zero_stage=1),
        Case(objective="barlow_twins", optimizer="adamw", zero_stage=1),
        Case(objective="vicreg", optimizer="larc", zero_stage=2),
        Case(objective="byol", optimizer="larc", zero_stage=2, accumulation=4, batch_norm="frozen", steps=8),
        Case(objective="simsiam", optimizer="adamw", zero_stage=0),
        Case(objective="simsiam", optimizer="adamw_groups", zero_stage=2, steps=8),
        Case(objective="barlow_twins", optimizer="larc_groups", zero_stage=1, steps=8),
        Case(
            objective="cissl", optimizer="larc", zero_stage=2, accumulation=4, batch_norm="frozen", exact=True, steps=8
        ),
        Case(objective="vicreg", optimizer="adamw", zero_stage=2, batch_norm="frozen", clip="norm", steps=8),
        Case(objective="dino", optimizer="larc", zero_stage=1, batch_norm="frozen", clip="norm", steps=8),
        Case(objective="dissl", optimizer="larc", zero_stage=2, batch_norm="frozen", clip="value", steps=8),
    ],
    4: [
        Case(objective="swav", optimizer="adamw", zero_stage=1, batch_norm="frozen", steps=8),
        Case(objective="byol", optimizer="larc", zero_stage=2, steps=8),
        Case(objective="simclr", optimizer="larc", zero_stage=1, accumulation=4, batch_norm="frozen", steps=4),
    ],
}

FP64 = {
    world_size: [
        Case(objective=objective, optimizer=optimizer, dtype="fp64", steps=steps)
        for objective, optimizer in zip(objectives, itertools.cycle(("larc", "adamw")), strict=False)
    ]
    for world_size, steps, objectives in ((2, 8, list(OBJECTIVES)), (4, 6, ["dissl", "swav", "vicreg"]))
}

EVERY = [
    Case(objective=o, optimizer=p, zero_stage=z, accumulation=a, batch_norm=b)
    for o, p, z, a, b in itertools.product(OBJECTIVES, ("adamw", "larc"), (0, 1, 2), (1, 4), ("synchronised", "frozen"))
] + [
    Case(objective=o, optimizer=p, accumulation=a, batch_norm=b, dtype="fp64")
    for o, p, a, b in itertools.product(OBJECTIVES, ("adamw", "larc"), (1, 4), ("synchronised", "frozen"))
]


ROUNDINGS: tuple[dict[str, Any], ...] = ({"shuffled": True}, {"nudge": 1}, {"nudge": 2}, {"nudge": 3})
"""Changes of a case that change nothing but how it is rounded."""


@pytest.fixture(scope="module")
def batches() -> list[MultiCropBatch]:
    return make_batches()


class OneRank:
    """What one rank makes of a case, kept for the cases that it is compared with."""

    def __init__(self, batches: list[MultiCropBatch]) -> None:
        self.batches, self.made = batches, dict[str, dict[str, Any]]()

    def __call__(self, case: Case) -> dict[str, Any]:
        whole = case.exact or (case.objective in MEANS_OVER_IMAGES and case.batch_norm == "frozen")
        passes = 1 if whole else case.accumulation
        alone = dataclasses.replace(case, zero_stage=0, accumulation=passes, exact=False)
        if alone.name not in self.made:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            self.made[alone.name] = run(alone, start_ranks(), self.batches)
            torch.set_num_threads(threads)
        return self.made[alone.name]

    def floor(self, case: Case) -> dict[str, float]:
        """Of the losses, and of each tensor of weights, the largest difference that rounding alone makes."""
        alone = self(case)
        found = [difference(self(dataclasses.replace(case, **rounding)), alone) for rounding in ROUNDINGS]
        return {name: max(gaps[name] for gaps in found) for name in found[0]}


@pytest.fixture(scope="module")
def one_rank(batches: list[MultiCropBatch]) -> OneRank:
    return OneRank(batches)


Results = dict[int, list[dict[str, Any]]]
RunRanks = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def several_ranks(batches: list[MultiCropBatch], run_ranks: RunRanks) -> Results:
    """World size → what each of its ranks made of every case of the normal suite."""
    return {
        world_size: run_ranks(
            run_all, FP32[world_size] + FP64[world_size], batches, world_size=world_size, limit_seconds=1800
        )
        for world_size in (2, 4)
    }


def difference(these: dict[str, Any], those: dict[str, Any]) -> dict[str, float]:
    """Of the losses, and of each tensor of weights, the largest difference."""
    found = {"losses": these["losses"] - those["losses"]}
    found |= {name: weight - those["weights"][name] for name, weight in these["weights"].items()}
    return {name: float(gap.abs().max()) for name, gap in found.items()}


def check(case: Case, of_ranks: list[dict[str, Any]], one_rank: OneRank) -> None:
    results = [of_rank[case.name] for of_rank in of_ranks]
    for other in results[1:]:
        assert max(difference(other, results[0]).values()) == 0, "the ranks differ among themselves"
    alone = one_rank(case)
    assert alone["moved"] > 1e-3, "nothing was trained"
    share = 1e-8 if case.dtype == "fp64" else 5e-6
    values = {"losses": alone["losses"], **alone["weights"]}
    bounds = {name: share * max(1, float(value.abs().max())) for name, value in values.items()}
    gaps = difference(results[0], alone)
    worse = {name: gap for name, gap in gaps.items() if not gap <= bounds[name]}
    if worse:
        floor = one_rank.floor(case)
        wrong = {name: (gap, bounds[name], floor[name]) for name, gap in worse.items() if not gap <= 4 * floor[name]}
        assert not wrong, f"difference, bound and floor: {wrong}"


def cases(of_world_size: dict[int, list[Case]]) -> list[Any]:
    return [
        pytest.param(world_size, case, id=f"{world_size} ranks {case.name}")
        for world_size, some in of_world_size.items()
        for case in some
    ]


@pytest.mark.parametrize(("world_size", "case"), cases(FP64))
def test_ranks_compute_what_one_does_to_1e_8_in_fp64(
    world_size: int, case: Case, several_ranks: Results, one_rank: OneRank
) -> None:
    check(case, several_ranks[world_size], one_rank)


@pytest.mark.parametrize(("world_size", "case"), cases(FP32))
def test_ranks_compute_what_one_does_to_5e_6_or_rounding_in_fp32(
    world_size: int, case: Case, several_ranks: Results, one_rank: OneRank
) -> None:
    check(case, several_ranks[world_size], one_rank)


@pytest.mark.long
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_combination_computes_what_one_rank_does(
    objective: str, world_size: int, batches: list[MultiCropBatch], one_rank: OneRank, run_ranks: RunRanks
) -> None:
    some = [case for case in EVERY if case.objective == objective]
    results = run_ranks(run_all, some, batches, world_size=world_size, limit_seconds=1800)
    wrong = {}
    for case in some:
        try:
            check(case, results, one_rank)
        except AssertionError as error:
            wrong[case.name] = str(error)
    assert not wrong
