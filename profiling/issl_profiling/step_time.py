"""Where a training step's time goes: waiting for data, encoder, heads and objective, backward, optimiser.

The parts are timed one after another in the order of training's own ``train_step``, with the same modules, on the
same batches; on a GPU the device is synchronised around each, so that their sum is a little above a real step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import torch

from issl_engine.optim.rates import Rates
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner, build_views
from issl_engine.training.plan import make_plan
from issl_engine.training.step import after_step, train_step
from issl_profiling.timing import wait_for

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Medians over steps, in milliseconds; ``step`` is the whole, timed apart from its parts."""

    images_per_step: int
    views_per_image: int
    step: float
    data: float
    encoder: float
    objective: float
    backward_and_optimizer: float

    @property
    def images_per_second(self) -> float:
        return 1000 * self.images_per_step / self.step

    @property
    def parts(self) -> dict[str, float]:
        """What the step consists of, in its order."""
        return {
            "waiting for data": self.data,
            "encoder, forward": self.encoder,
            "heads and objective, forward": self.objective,
            "backward and optimiser": self.backward_and_optimizer,
        }


def measure_step(recipe: Recipe, dataset: Dataset, ranks: Ranks, *, steps: int, warmup: int = 3) -> StepTime:
    """Times ``steps`` training steps of the recipe's first seed on this rank. Raises Mistake as pretraining does."""
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, recipe.seeds[0])
    engine = build_engine(learner, recipe, plan)
    learner.train()
    accumulation = recipe.training.accumulation_steps
    views = build_views(recipe, dataset, plan, ranks, seed=recipe.seeds[0])
    clock = _Clock(ranks.device)
    columns: dict[str, list[float]] = {"step": [], "data": [], "encoder": [], "objective": []}
    try:
        for index in range(warmup + steps):
            progress = plan.progress(min(index, plan.total_steps - 1))
            whole = partial(
                train_step, engine, views, None, progress=progress, rates=Rates(lr=plan.peak_lr), ranks=ranks,
                accumulation_steps=accumulation,
            )  # fmt: skip
            step, result = clock.time(whole)
            after_step(engine, progress, result)
            engine.guard.read(ranks, newest=False)
            batch = next(views).to(ranks.device)
            # The parts are called past the engine, whose precision they take.
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16"):
                encoder, z_VBD = clock.time(partial(learner.encode, batch.crops))
                teacher = learner.teacher_projections(batch)
                objective, _ = clock.time(partial(learner.loss, z_VBD, batch.ids, teacher, progress))
            if index >= warmup:
                columns["step"].append(step)
                columns["data"].append(1000 * result.data_seconds)
                columns["encoder"].append(encoder * accumulation)
                columns["objective"].append(objective * accumulation)
    finally:
        views.close()
        engine.close()
    medians = {name: median(values) for name, values in columns.items()}
    rest = medians["step"] - medians["data"] - medians["encoder"] - medians["objective"]
    return StepTime(
        images_per_step=recipe.training.global_batch_size, views_per_image=recipe.views.num_views,
        backward_and_optimizer=max(0.0, rest), **medians,
    )  # fmt: skip


class _Clock:
    """Milliseconds of a call, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time(self, call: Callable[[], Result]) -> tuple[float, Result]:
        wait_for(self.device)
        started = time.perf_counter()
        result = call()
        wait_for(self.device)
        return 1000 * (time.perf_counter() - started), result
