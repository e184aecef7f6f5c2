"""Our training and its parts: the whole run, the step on cached crops, the loader, the encoder, heads and loss."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import cast

import torch
from torch import Tensor

from issl_engine.loading import TrainingViews
from issl_engine.training.build import build_engine, build_learner, build_online_probe, build_views
from issl_engine.training.learner import Learner, encode_views
from issl_engine.training.step import StepResult, after_step, train_step
from issl_engine.training.watch.balance import Interval
from issl_engine.views.batch import MultiCropBatch
from issl_profiling.train.candidate import CACHED, ENCODER, HEADS, LOADER, WHOLE, Candidate, Shares, Work
from issl_profiling.train.case import TrainCase
from issl_profiling.train.flops import StepFlops, count_flops

PART_WARMUP = 2


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


class CachedViews:
    """Gives the same batches again and again, as fast as they can be named."""

    def __init__(self, batches: list[MultiCropBatch]) -> None:
        self._batches = cycle(batches)

    def __next__(self) -> MultiCropBatch:
        return next(self._batches)

    def close(self) -> None:
        pass


class OurTraining:
    """The loop of training without its files: step, what follows it, the guard's report. With ``batches`` it loads
    nothing."""

    def __init__(self, case: TrainCase, batches: list[MultiCropBatch] | None) -> None:
        self.case = case
        recipe, ranks = case.recipe, case.ranks
        self.learner = build_learner(recipe, case.plan, ranks, case.seed)
        self.online_probe = build_online_probe(recipe, case.dataset, self.learner, ranks)
        self.engine = build_engine(self.learner, recipe, case.plan)
        self.views = (
            build_views(recipe, case.dataset, case.plan, ranks, seed=case.seed)
            if batches is None
            # The step asks for batches and nothing else.
            else cast(TrainingViews, CachedViews(batches))
        )
        self.learner.train()
        self.last_result: StepResult | None = None
        self.interval = Interval(case.images_per_step, ranks.device)

    def step(self) -> None:
        case, training = self.case, self.case.recipe.training
        with self.interval.step_timer:
            result = train_step(
                self.engine, self.views, self.online_probe, progress=case.progress, lr=case.plan.peak_lr,
                ranks=case.ranks, accumulation_steps=training.accumulation_steps,
                exact_accumulation=training.exact_accumulation,
            )  # fmt: skip
            after_step(self.engine, case.progress, result)
        self.last_result = result
        self.interval.add(result.loss, result.data_seconds, result.skipped)
        self.engine.guard.read(case.ranks, newest=False)

    def start_of_timing(self) -> None:
        self.interval = Interval(self.case.images_per_step, self.case.ranks.device)

    def shares(self) -> Shares:
        record = self.interval.close(self.case.progress, self.case.plan.peak_lr)
        return Shares(
            data=record["data_fraction"], device=record["device_fraction"], host=record["host_fraction"]
        )  # fmt: skip

    def close(self) -> None:
        self.views.close()
        self.engine.close()


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
    """Forward and backward of a part of the learner, as often a step as training has passes."""

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
    z_VBD.backward(torch.randn_like(z_VBD))


def _lose(case: TrainCase, learner: Learner, z_VBD: Tensor, ids_B: Tensor, teacher_GBP: Tensor | None) -> None:
    z_VBD.grad = None
    with case.autocast():
        loss = learner.loss(z_VBD, ids_B, teacher_GBP, case.progress).loss
    loss.backward()


def _learn(case: TrainCase, learner: Learner, batch: MultiCropBatch) -> None:
    with case.autocast():
        loss = learner(batch, case.progress).loss
    loss.backward()


def _ready_learner(case: TrainCase) -> Learner:
    learner = build_learner(case.recipe, case.plan, case.ranks, case.seed).train()
    if case.recipe.training.channels_last:  # as build_engine leaves it
        learner.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return learner


def cached_batches(case: TrainCase) -> list[MultiCropBatch]:
    """The batches of one step. Copies: the loader uses its memory again."""
    views = build_views(case.recipe, case.dataset, case.plan, case.ranks, seed=case.seed)
    try:
        batches = [next(views).to(case.ranks.device) for _ in range(case.passes)]
        return [
            MultiCropBatch(
                crops=tuple(crop.clone() for crop in batch.crops), ids=batch.ids.clone(), labels=batch.labels.clone(),
                masks=batch.masks,
            )
            for batch in batches
        ]  # fmt: skip
    finally:
        views.close()


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
        learner=count_flops(Part(learner, passes).step),
        encoder=count_flops(encoder_part(eager, batches).step),
        objective=count_flops(heads_part(eager, batches).step),
    )
