"""Our training without its files, one step at a time, on the loader's crops or on those of one step."""

from itertools import cycle
from typing import cast

from issl_engine.loading import TrainingViews
from issl_engine.optim.rates import Rates
from issl_engine.training.build import build_engine, build_learner, build_online_probe, build_views
from issl_engine.training.step import StepResult, after_step, train_step
from issl_engine.training.watch.balance import Interval
from issl_engine.views.batch import MultiCropBatch
from issl_profiling.train.candidate import Shares
from issl_profiling.train.case import TrainCase


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
                self.engine, self.views, self.online_probe, progress=case.progress, rates=Rates(lr=case.plan.peak_lr),
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
