"""One optimiser step: views → encoder → heads → objective → backward → optimiser → metrics."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.data.dali import TrainingViews
from issl_engine.data.views import MultiCropBatch
from issl_engine.objectives.base import ObjectiveOutput, Progress
from issl_engine.probing.online import OnlineProbe
from issl_engine.training.alarms import check_finite
from issl_engine.training.contrastive_accumulation import contrastive_accumulation
from issl_engine.training.deepspeed import Engine, Ranks
from issl_engine.training.learner import Learner, LearnerEmbeddings, LearnerOutput


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimiser step: mean loss of its forward passes and the last one's metrics (loss and metrics of all images
    with exact accumulation), seconds spent waiting for data."""

    loss: Tensor
    metrics: dict[str, Tensor]
    data_seconds: float


def train_step(
    engine: Engine,
    views: TrainingViews,
    online_probe: OnlineProbe | None,
    *,
    progress: Progress,
    lr: float,
    ranks: Ranks,
    accumulation_steps: int,
    exact_accumulation: bool = False,
) -> StepResult:
    """One optimiser step. Raises TrainingStopped, before any weight has changed, when the loss is not finite."""
    engine.set_lr(lr)
    if exact_accumulation and accumulation_steps > 1:
        return _exact_step(engine, views, online_probe, progress, ranks, accumulation_steps)
    data_seconds, loss, metrics = 0.0, torch.zeros((), device=ranks.device), {}
    for _ in range(accumulation_steps):
        asked = time.perf_counter()
        batch = next(views).to(ranks.device)
        data_seconds += time.perf_counter() - asked
        output: LearnerOutput = engine(batch, progress)
        check_finite(output.loss, batch.ids, progress, ranks)
        engine.backward(output.loss)
        engine.step()
        loss += output.loss.detach() / accumulation_steps
        metrics = dict(output.metrics)
        if online_probe is not None:
            probed = online_probe.step(output.z_BD, batch.labels)
            metrics |= {f"online_{name}": value for name, value in probed.items()}
    return StepResult(loss=loss, metrics=metrics, data_seconds=data_seconds)


def _exact_step(
    engine: Engine,
    views: TrainingViews,
    online_probe: OnlineProbe | None,
    progress: Progress,
    ranks: Ranks,
    accumulation_steps: int,
) -> StepResult:
    """The step whose loss compares the images of all its forward passes (training.exact_accumulation)."""
    learner = engine.module
    assert isinstance(learner, Learner)
    asked = time.perf_counter()
    batches = [next(views).to(ranks.device) for _ in range(accumulation_steps)]
    data_seconds = time.perf_counter() - asked
    ids = torch.cat([batch.ids for batch in batches])
    z_of_passes: list[Tensor] = []

    def embed(batch: MultiCropBatch) -> tuple[Tensor, ...]:
        output: LearnerEmbeddings = engine(batch, progress, True)
        z_of_passes.append(output.z_BD)
        return output.embeddings

    def compare(embeddings: tuple[Tensor, ...]) -> ObjectiveOutput:
        output = learner.objective.compare(embeddings, progress)
        check_finite(output.loss, ids, progress, ranks)
        return output

    def backward(partial: Tensor) -> None:
        engine.backward(partial, add_up=True)
        engine.step()

    loss, metrics, replay_error = contrastive_accumulation(
        batches, embed, compare, module=learner, dim=1, backward=backward
    )
    metrics = metrics | {"replay_error": replay_error}
    if online_probe is not None:
        for z_BD, batch in zip(z_of_passes[-accumulation_steps:], batches, strict=True):
            probed = online_probe.step(z_BD, batch.labels)
            metrics |= {f"online_{name}": value for name, value in probed.items()}
    return StepResult(loss=loss, metrics=metrics, data_seconds=data_seconds)
