"""Our training and its parts, to be timed: the whole run, the step on cached crops, the loader, the encoder, heads and
loss.

Floating-point operations of a step are counted once by torch's own counter: matrix products and convolutions. What has
no matrix product (batch-norm, activations, softmax, Sinkhorn, optimiser) and what a Triton kernel does inside count
nothing, so that TFLOP/s is what a model's utilisation is taken of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from issl_engine.training.build import build_learner, build_views
from issl_engine.training.learner import Learner, encode_views
from issl_engine.views.batch import MultiCropBatch
from issl_profiling.train.candidate import CACHED, ENCODER, HEADS, LOADER, WHOLE, Candidate, Work
from issl_profiling.train.case import TrainCase
from issl_profiling.train.our_training import OurTraining, cached_batches

PART_WARMUP = 2


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Forward and backward of all passes of one step."""

    learner: int
    encoder: int
    objective: int


def our_candidates(case: TrainCase) -> tuple[list[Candidate], StepFlops]:
    """Training and its parts, on the crops of one step, which are made here; and the operations of that step."""
    batches = cached_batches(case)
    flops = _step_flops(case, batches)
    ahead = case.recipe.data.prefetch_batches + 1

    def part(name: str, start: Callable[[], Work], warmup: int, count: int | None) -> Candidate:
        return Candidate(
            kind="ours" if name == WHOLE else "part", name=name, start=start, warmup_steps=warmup, flops=count
        )  # fmt: skip

    return [
        part(WHOLE, lambda: OurTraining(case, None), ahead, flops.learner),
        part(CACHED, lambda: OurTraining(case, batches), PART_WARMUP, flops.learner),
        part(LOADER, lambda: OurLoader(case), ahead, None),
        part(ENCODER, lambda: encoder_part(case, batches), PART_WARMUP, flops.encoder),
        part(HEADS, lambda: heads_part(case, batches), PART_WARMUP, flops.objective),
    ], flops


class OurLoader:
    """The loader alone, as fast as its batches are taken."""

    def __init__(self, case: TrainCase) -> None:
        self.case = case
        self.views = build_views(case.recipe, case.dataset, case.plan, case.ranks, seed=case.seed)

    def step(self) -> None:
        for _ in range(self.case.passes):
            next(self.views).to(self.case.ranks.device)

    def start_of_timing(self) -> None:
        pass

    def shares(self) -> None:
        return None

    def close(self) -> None:
        self.views.close()


class Part:
    """Forward and backward of a part of the learner, as often per step as training has passes."""

    def __init__(self, learner: Learner, passes: Sequence[Callable[[], object]]) -> None:
        self.learner, self.passes = learner, passes

    def step(self) -> None:
        for run in self.passes:
            run()
        self.learner.zero_grad(set_to_none=True)

    def start_of_timing(self) -> None:
        pass

    def shares(self) -> None:
        return None

    def close(self) -> None:
        self.passes = []


def encoder_part(case: TrainCase, batches: list[MultiCropBatch]) -> Part:
    """The encoder on all crops with a random gradient from above: no heads, loss, teacher or optimiser."""
    learner = _ready_learner(case)
    return Part(learner, [partial(_encode, case, learner, batch) for batch in batches])


def heads_part(case: TrainCase, batches: list[MultiCropBatch]) -> Part:
    """Heads and loss on the representations of the crops, which stay as they are."""
    learner = _ready_learner(case)
    passes: list[Callable[[], object]] = []
    for batch in batches:
        with case.autocast(), torch.no_grad():
            z_VBD = encode_views(learner.encoder, batch.crops, learner.memory_format).clone()
            teacher_GBP = learner.teacher_projections(batch)
        passes.append(partial(_lose, case, learner, z_VBD.requires_grad_(), batch.ids, teacher_GBP))
    return Part(learner, passes)


def _encode(case: TrainCase, learner: Learner, batch: MultiCropBatch) -> None:
    with case.autocast():
        z_VBD = encode_views(learner.encoder, batch.crops, learner.memory_format)
    z_VBD.backward(torch.randn_like(z_VBD))  # type: ignore[no-untyped-call]


def _lose(case: TrainCase, learner: Learner, z_VBD: Tensor, ids_B: Tensor, teacher_GBP: Tensor | None) -> None:
    z_VBD.grad = None
    with case.autocast():
        loss = learner.loss(z_VBD, ids_B, teacher_GBP, case.progress).loss
    loss.backward()  # type: ignore[no-untyped-call]


def _learn(case: TrainCase, learner: Learner, batch: MultiCropBatch) -> None:
    with case.autocast():
        loss = learner(batch, case.progress).loss
    loss.backward()


def _ready_learner(case: TrainCase) -> Learner:
    learner = build_learner(case.recipe, case.plan, case.ranks, case.seed).train()
    if case.recipe.training.channels_last:  # as build_engine leaves it
        learner.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return learner


def _step_flops(case: TrainCase, batches: list[MultiCropBatch]) -> StepFlops:
    """Counted without torch.compile, whose operations the counter does not see."""
    training = case.recipe.training.model_copy(update={"compile": False})
    eager = TrainCase(
        arm=case.arm, recipe=case.recipe.model_copy(update={"training": training}), dataset=case.dataset,
        ranks=case.ranks, plan=case.plan,
    )  # fmt: skip
    learner = _ready_learner(eager)
    passes = [partial(_learn, eager, learner, batch) for batch in batches]
    return StepFlops(
        learner=_count_flops(Part(learner, passes).step),
        encoder=_count_flops(encoder_part(eager, batches).step),
        objective=_count_flops(heads_part(eager, batches).step),
    )


def _count_flops(run: Callable[[], object]) -> int:
    """Operations of one call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
