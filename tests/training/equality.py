"""A few steps of pretraining through the engine, for any number of ranks: what test_equal_ranks.py compares."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from issl_engine.loading import TrainingViews
from issl_engine.models.guarded_buffers import GuardedBuffers
from issl_engine.optim.rates import Rates, rates_at
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.guard import GuardSettings, StepGuard
from issl_engine.training.learner import Learner
from issl_engine.training.plan import Plan, make_plan
from issl_engine.training.step import after_step, train_step
from issl_engine.views.batch import MultiCropBatch

from .conftest import SMALL_OBJECTIVES, make_images, make_recipe

STEPS = 20
GLOBAL_BATCH = 16  # so that four ranks of four passes have an image each
NUM_IMAGES = 80

OBJECTIVES = SMALL_OBJECTIVES | {
    "swav": SMALL_OBJECTIVES["swav"] | {"freeze_prototypes_steps": 3, "queue_length": 32, "epsilon": 0.2},
    "swav_in_blocks": SMALL_OBJECTIVES["swav"] | {"freeze_prototypes_steps": 3, "logits_in_blocks": True},
}
"""The prototypes of SwAV are frozen at first and train later on; DINO's last layer is frozen for an epoch, 5 steps."""

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, "eps": 1e-4},
    "larc": {
        "name": "larc", "lr": 0.002, "weight_decay": 1e-3, "trust_coefficient": 0.5,
        "exclude_bias_and_norm_from_adaptation": True,
    },
}  # fmt: skip
OPTIMIZERS |= {
    f"{name}_groups": settings
    | {
        "weight_decay_end": 5 * settings["weight_decay"],
        "groups": [
            {"of": "biases_and_norms", "lr_factor": 0.5, "weight_decay": 0.01},
            {"of": "heads", "follows_schedule": False},
        ],
    }
    for name, settings in OPTIMIZERS.items()
}
"""Settings under which rounding stays rounding. A bias before batch-norm has no gradient but rounding errors; Adam with
a small eps and LARC with adaptation make whole steps of them, and the teacher of BYOL shows where those led. A ReLU's
kink makes as much of them: ``make_smooth`` takes it out where the arithmetic is fp32."""

VIEWS = {"groups": [{"count": 2, "size": 16, "area": [0.3, 1.0]}, {"count": 1, "size": 16, "area": [0.1, 0.4]}]}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run; the number of ranks is that of the processes."""

    objective: str
    optimizer: str = "adamw"
    zero_stage: int = 0
    accumulation: int = 1
    batch_norm: Literal["synchronised", "frozen"] = "synchronised"
    dtype: Literal["fp32", "fp64"] = "fp32"
    exact: bool = False
    clip: Literal["norm", "value"] | None = None
    steps: int = STEPS
    shuffled: bool = False
    """Have the images of each pass in another order: one of the ways to see what rounding alone makes of a run."""
    nudge: int = 0
    """Seed by which each weight starts as one of its two neighbours in its dtype: another such way; 0 for none."""

    @property
    def name(self) -> str:
        """Unique, and short enough for a test's id."""
        parts = [self.objective, self.optimizer, f"zero {self.zero_stage}", f"passes {self.accumulation}"]
        parts += [self.batch_norm, self.dtype, f"steps {self.steps}"]
        parts += ["exact"] * self.exact + [f"clip {self.clip}"] * (self.clip is not None)
        return " ".join(parts + ["shuffled"] * self.shuffled + [f"nudge {self.nudge}"] * (self.nudge > 0))

    def recipe(self) -> Recipe:
        training = {
            "epochs": STEPS * GLOBAL_BATCH / NUM_IMAGES, "global_batch_size": GLOBAL_BATCH, "threads": 1,
            "accumulation_steps": self.accumulation, "exact_accumulation": self.exact, "channels_last": False,
            "clip_gradient_norm": 0.3 if self.clip == "norm" else None,
            "clip_gradient_value": 0.01 if self.clip == "value" else None,
        }  # fmt: skip
        return make_recipe(
            self.objective.removesuffix("_in_blocks"), objective=OBJECTIVES[self.objective], training=training,
            optimizer=OPTIMIZERS[self.optimizer], deepspeed={"zero_stage": self.zero_stage}, views=VIEWS,
        )  # fmt: skip


class PlainEngine:
    """The engine's gradients and steps written out: means over passes and ranks. DeepSpeed has none in fp64."""

    def __init__(self, module: Learner, recipe: Recipe, plan: Plan) -> None:
        self.module, self.passes, self.passed = module, recipe.training.accumulation_steps, 0
        self.optimizer = recipe.optimizer.build(
            module.trainable_parameters(), no_decay=module.no_decay_parameters(), lr=plan.peak_lr
        )
        settings = GuardSettings(on_non_finite="stop", max_skipped_steps=1, clip_gradient_norm=None)
        self.guard = StepGuard(settings, GuardedBuffers(module.buffers()))
        self.gradients_are_whole = True

    def __call__(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def set_rates(self, rates: Rates) -> None:
        rates.give(self.optimizer.param_groups)

    def backward(self, loss: Tensor) -> None:
        (loss / self.passes).backward()
        self.passed += 1
        if self.passed % self.passes:
            return
        for _, parameter in self.module.trainable_parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()

    def gradients(self) -> list[Tensor]:
        return [parameter.grad for _, parameter in self.module.trainable_parameters() if parameter.grad is not None]

    def leave_out_step_where(self, flag: Tensor) -> None:
        self.optimizer.found_inf = flag  # type: ignore[attr-defined]

    def step(self) -> None:
        if self.passed % self.passes == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def take_over(self, weights: Iterable[nn.Parameter]) -> None:
        """There is one copy of them."""

    def close(self) -> None:
        """Nothing is held."""


def make_dataset() -> Dataset:
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(NUM_IMAGES, 0), test=make_images(16, 1))


def make_batches() -> list[MultiCropBatch]:
    """The images of each step, of all ranks, as the loader gives them to one."""
    recipe = Case(objective="simclr").recipe()
    views = TrainingViews(
        make_dataset().train, recipe.views, batch_size=GLOBAL_BATCH, rank=0, world_size=1, seed=0,
        device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    batches = [next(views) for _ in range(STEPS)]
    views.close()
    return [_rows(batch, torch.arange(GLOBAL_BATCH), torch.float32) for batch in batches]


def run(case: Case, ranks: Ranks, batches: list[MultiCropBatch]) -> dict[str, Any]:
    """{losses: mean over the passes [steps] fp64, weights: name → tensor fp64, moved: the largest change of one}."""
    recipe = case.recipe()
    plan = make_plan(recipe, make_dataset(), ranks)
    learner = _learner(case, recipe, plan, ranks)
    start = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    engine: Any = PlainEngine(learner, recipe, plan) if case.dtype == "fp64" else build_engine(learner, recipe, plan)
    learner.train(case.batch_norm == "synchronised")
    losses: list[Tensor] = []
    if not case.exact:  # in double precision, before a step's mean is taken
        learner.register_forward_hook(lambda module, inputs, output: losses.append(output.loss.detach().double()))
    views: Any = _share(batches, case, plan, ranks)
    for step in range(case.steps):
        done = train_step(
            engine, views, None, progress=plan.progress(step), rates=_rates(recipe, plan, step), ranks=ranks,
            accumulation_steps=case.accumulation, exact_accumulation=case.exact,
        )  # fmt: skip
        after_step(engine, plan.progress(step + 1), done)
        if case.exact:
            losses.append(done.loss.double())
    weights = {name: weight.detach().double().clone() for name, weight in learner.named_parameters()}
    engine.close()
    moved = max(float((weights[name] - value).abs().max()) for name, value in start.items())
    return {"losses": torch.stack(losses).view(case.steps, -1).mean(1), "weights": weights, "moved": moved}


def _rates(recipe: Recipe, plan: Plan, step: int) -> Rates:
    """The learning rate is constant, and higher for groups that do not follow the schedule; the decay may move."""
    lr = recipe.optimizer.lr
    scheduled = rates_at(
        step, optimizer=recipe.optimizer, schedule=recipe.schedule, peak_lr=plan.peak_lr,
        steps_per_epoch=plan.steps_per_epoch, total_steps=plan.total_steps,
    )  # fmt: skip
    return Rates(lr=lr, peak_lr=1.5 * lr, weight_decay=scheduled.weight_decay)


def run_all(ranks: Ranks, cases: list[Case], batches: list[MultiCropBatch]) -> dict[str, dict[str, Any]]:
    """Case name → what this rank made of it."""
    return {case.name: run(case, ranks, batches) for case in cases}


def make_smooth(module: nn.Module) -> None:
    """Put GELU in the place of every ReLU.

    A step has about 60 000 numbers before a ReLU, and in 20 steps one of them may come as near to zero as rounding
    reaches. Its derivative is then 0 on one rank and 1 on two, and with 16 images the weights differ by 1e-4 two steps
    later, though every sum agrees to the last digits. It was so for one number of SwAV's head in the 18th step under
    LARC: 9e-8 in fp64, 2.5e-7 on two ranks, -3e-8 on one. Which case meets a kink depends on the processor, whose
    libraries sum in an order of their own. What ranks share does not depend on the activation.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.GELU())


def _learner(case: Case, recipe: Recipe, plan: Plan, ranks: Ranks) -> Learner:
    learner = build_learner(recipe, plan, ranks, seed=0)
    if case.dtype == "fp64":
        learner.double()
    else:
        make_smooth(learner)
    if case.nudge:
        _nudge(learner, case.nudge)
    return learner


@torch.no_grad()
def _nudge(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        side = torch.randint(2, weight.shape, generator=generator).to(weight).mul_(2).sub_(1)
        weight.copy_(torch.nextafter(weight, side * torch.inf))


def _share(batches: list[MultiCropBatch], case: Case, plan: Plan, ranks: Ranks) -> Iterator[MultiCropBatch]:
    """This rank's passes, in the order of the loader: pass after pass, in each the ranks one after the other."""
    images = plan.micro_batch_size * ranks.world_size
    generator = torch.Generator().manual_seed(1)
    dtype = torch.float64 if case.dtype == "fp64" else torch.float32
    for batch in batches:
        for rows in torch.arange(GLOBAL_BATCH).split(images):
            order = torch.randperm(images, generator=generator) if case.shuffled else torch.arange(images)
            mine = rows[order].split(plan.micro_batch_size)[ranks.rank]
            yield _rows(batch, mine, dtype)


def _rows(batch: MultiCropBatch, rows: Tensor, dtype: torch.dtype) -> MultiCropBatch:
    crops = tuple(crop[:, rows].to(dtype).contiguous() for crop in batch.crops)
    return MultiCropBatch(crops=crops, ids=batch.ids[rows], labels=batch.labels[rows])
