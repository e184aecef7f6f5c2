"""One optimiser step: views → encoder → heads → objective → backward → optimiser → metrics.

Letters: G global views; B images on this rank; D width of the representation.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.objectives.base import ObjectiveOutput, Progress
from issl_engine.optim.rates import Rates
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.training.contrastive_accumulation import contrastive_accumulation
from issl_engine.training.deepspeed import Engine
from issl_engine.training.guard import LossOfPass, Verdict
from issl_engine.training.learner import Learner, LearnerEmbeddings, LearnerOutput
from issl_engine.views.batch import MultiCropBatch


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimiser step: mean loss of its forward passes and the last one's metrics (loss and metrics of all images
    with exact accumulation), seconds spent waiting for data; ``skipped``: 1 if the guard left the step out, else 0;
    ``z_GBD``: representations of the last forward pass, detached.

    Tensors stay on the device: reading one waits for it."""

    loss: Tensor
    metrics: dict[str, Tensor]
    data_seconds: float
    skipped: Tensor
    z_GBD: Tensor


def train_step(
    engine: Engine,
    views: Iterator[MultiCropBatch],
    online_probe: OnlineProbe | None,
    *,
    progress: Progress,
    rates: Rates,
    ranks: Ranks,
    accumulation_steps: int,
    exact_accumulation: bool = False,
    stopping: bool = False,
) -> StepResult:
    """One optimiser step, which the engine's guard leaves out on the device if loss or gradients are not finite.

    Waits for the device nowhere. ``stopping``: whether this rank was asked to stop; the guard says so to all."""
    engine.set_rates(rates)
    engine.guard.begin()
    if exact_accumulation and accumulation_steps > 1:
        return _exact_step(engine, views, online_probe, progress, ranks, accumulation_steps, stopping)
    data_seconds, passes, for_probe = 0.0, [], []
    for _ in range(accumulation_steps):
        asked = time.perf_counter()
        batch = next(views).to(ranks.device)
        data_seconds += time.perf_counter() - asked
        output: LearnerOutput = engine(batch, progress)
        engine.backward(output.loss)
        passes.append(LossOfPass(output.loss.detach(), batch.ids))
        for_probe.append((output.z_GBD[0], batch.labels))
        if len(passes) == accumulation_steps:
            verdict = engine.guard.judge(engine, passes, progress, ranks, stopping=stopping)
        engine.step()
    loss = torch.stack([one.loss for one in passes]).mean()
    metrics = output.metrics | {"gradient_norm": verdict.gradient_norm}
    metrics |= _probe(online_probe, for_probe, verdict.skipped)
    return StepResult(
        loss=loss, metrics=metrics, data_seconds=data_seconds, skipped=verdict.skipped, z_GBD=output.z_GBD
    )


def after_step(engine: Engine, done: Progress, result: StepResult) -> None:
    """What follows a step: teacher and prototypes move, and ZeRO's copies of weights that they are follow."""
    learner = engine.module
    assert isinstance(learner, Learner)
    learner.after_step(done, result.skipped)
    engine.take_over(learner.objective.rewritten_weights())


def _probe(
    online_probe: OnlineProbe | None, batches: list[tuple[Tensor, Tensor]], skipped: Tensor
) -> dict[str, Tensor]:
    """The online probe's updates on (representations, labels); metrics of the last."""
    probed: dict[str, Tensor] = {}
    if online_probe is not None:
        for z_BD, labels_B in batches:
            probed = online_probe.step(z_BD, labels_B, skipped)
    return {f"online_{name}": value for name, value in probed.items()}


def _exact_step(
    engine: Engine,
    views: Iterator[MultiCropBatch],
    online_probe: OnlineProbe | None,
    progress: Progress,
    ranks: Ranks,
    accumulation_steps: int,
    stopping: bool,
) -> StepResult:
    """The step whose loss compares the images of all its forward passes (training.exact_accumulation)."""
    learner = engine.module
    assert isinstance(learner, Learner)
    asked = time.perf_counter()
    batches = [next(views).to(ranks.device) for _ in range(accumulation_steps)]
    data_seconds = time.perf_counter() - asked
    ids = torch.cat([batch.ids for batch in batches])
    z_of_passes: list[Tensor] = []
    passes: list[LossOfPass] = []
    verdicts: list[Verdict] = []
    backward_passes = 0

    def embed(batch: MultiCropBatch) -> tuple[Tensor, ...]:
        output: LearnerEmbeddings = engine(batch, progress, True)
        z_of_passes.append(output.z_GBD)
        return output.embeddings

    def compare(embeddings: tuple[Tensor, ...]) -> ObjectiveOutput:
        output = learner.objective.compare(embeddings, progress)
        passes.append(LossOfPass(output.loss.detach(), ids))
        return output

    def backward(partial: Tensor) -> None:
        nonlocal backward_passes
        engine.backward(partial, add_up=True)
        backward_passes += 1
        if backward_passes == accumulation_steps:
            verdicts.append(engine.guard.judge(engine, passes, progress, ranks, stopping=stopping))
        engine.step()

    loss, metrics, replay_error = contrastive_accumulation(
        batches, embed, compare, module=learner, dim=1, backward=backward
    )
    (verdict,) = verdicts
    labels = [batch.labels for batch in batches]
    z_first = [z_GBD[0] for z_GBD in z_of_passes[-accumulation_steps:]]
    for_probe = list(zip(z_first, labels, strict=True))
    metrics = metrics | {"replay_error": replay_error, "gradient_norm": verdict.gradient_norm}
    metrics |= _probe(online_probe, for_probe, verdict.skipped)
    return StepResult(
        loss=loss, metrics=metrics, data_seconds=data_seconds, skipped=verdict.skipped, z_GBD=z_of_passes[-1]
    )
