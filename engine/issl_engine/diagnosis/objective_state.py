"""What a trained objective shows on images that it was not trained on: its loss, its classes, its heads' spectra.

Letters: B images of one forward pass, R rows of a head's output, H its width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from issl_engine.diagnosis.measure import Diagnosis
from issl_engine.loading import TrainingViews
from issl_engine.measures.assignment_use import assignment_use
from issl_engine.objectives.base import Progress
from issl_engine.sources.base import ImageSet
from issl_engine.training.compiled import heads_of
from issl_engine.training.learner import Learner, LearnerOutput
from issl_engine.views.config import ViewsConfig


@torch.no_grad()
def measure_objective(
    found: Diagnosis, learner: Learner, images: ImageSet, views: ViewsConfig, *, batch_size: int, progress: Progress,
    seed: int, num_threads: int,
) -> None:  # fmt: skip
    """One forward pass over ``batch_size`` images with all their views, or over all images if they are fewer.

    In evaluation mode, so that batch-norm takes its running statistics. The learner must be this function's own: queues
    and centres move on. Of an objective that knows the training images one by one only the weights are looked at.
    """
    if learner.objective.uses_image_ids:
        _add_spectra(found, learner.objective, {})
        return
    device = next(learner.parameters()).device
    B = min(batch_size, len(images))
    loader = TrainingViews(
        images, views, batch_size=B, rank=0, world_size=1, seed=seed, device=device, num_threads=num_threads
    )
    learner.eval()
    try:
        with recorded_outputs(learner.objective) as outputs:
            done = learner(next(loader).to(device), progress)
    finally:
        loader.close()
    assert isinstance(done, LearnerOutput)
    if done.loss.isfinite():
        found.measures["held_out_loss"] = float(done.loss)
    _measure_assignments(found, learner, done, num_rows=B * views.num_global_views)
    _add_spectra(found, learner.objective, outputs)


def _measure_assignments(found: Diagnosis, learner: Learner, done: LearnerOutput, *, num_rows: int) -> None:
    of = learner.objective.assignment_metrics
    if of is None:
        return
    logged = {name: float(value) for name, value in done.metrics.items()}
    use = assignment_use(logged, of, num_rows)
    optimum = {
        "marginal_entropy": math.log(of.num_classes), "marginal_entropy_share": 1.0, "used_classes_share": 1.0,
    }  # fmt: skip
    for name, value in use.items():
        found.add(name, partial(float, value), optimum[name])


def _add_spectra(found: Diagnosis, objective: nn.Module, outputs: dict[str, Tensor]) -> None:
    """Those of the heads' outputs [R, H], and of every weight matrix of the objective."""
    for name, output_RH in outputs.items():
        found.add_spectrum(f"{name} output", output_RH)
    for name, weight in objective.named_parameters():
        if weight.ndim == 2:
            found.add_spectrum(name, weight)


@contextmanager
def recorded_outputs(objective: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects inside what each head gave last, as rows [R, H]. Heads whose last layer is made inside the loss
    (objective.logits_in_blocks) give none."""
    outputs: dict[str, Tensor] = {}
    names = {module: name for name, module in objective.named_modules()}

    def record(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        outputs[name] = output.detach().flatten(0, -2).float().clone()  # a loss may overwrite its logits

    hooks = [head.register_forward_hook(partial(record, names[head])) for head in heads_of(objective)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
