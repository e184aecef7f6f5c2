"""The host runs ahead of the device: no step reads a tensor's value, whatever the objective.

On a CPU every way to read one is watched: the operators behind ``.item()``, ``bool()``, ``float()`` and indexing by a
mask, and the methods that copy to the host. On a GPU the driver itself refuses to be waited for.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from issl_engine.loading import TrainingViews
from issl_engine.objectives.base import ObjectiveOutput
from issl_engine.objectives.simclr import SimCLR
from issl_engine.optim.rates import Rates
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.plan import make_plan
from issl_engine.training.step import train_step

from ..objectives.small_objectives import SMALL
from .conftest import BATCH, SMALL_OBJECTIVES, make_recipe

READING_OPERATORS = {
    "aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal", "aten::is_nonzero",
    "aten::masked_select", "aten::_unique2", "aten::unique_consecutive", "aten::repeat_interleave.Tensor",
}  # fmt: skip
READING_METHODS = ("tolist", "numpy", "cpu", "__array__")


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name in ("aten::index", "aten::index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READING_OPERATORS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collects the names of what reads values in the block, backward passes included."""
    originals = {name: getattr(Tensor, name) for name in READING_METHODS}
    with _Watch() as watch:

        def make(name: str) -> Any:
            def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
                watch.found.append(f"Tensor.{name}")
                return originals[name](self, *args, **kwargs)

            return method

        for name in READING_METHODS:
            setattr(Tensor, name, make(name))
        try:
            yield watch.found
        finally:
            for name, original in originals.items():
                setattr(Tensor, name, original)


def reads_of_steps(recipe: Recipe, dataset: Dataset, *, steps: int = 3) -> list[str]:
    """What reads values or waits, from the first step on; batches are handed over before.

    DeepSpeed's timers would begin at the third step."""
    from deepspeed.accelerator import get_accelerator

    ranks = start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    probe = OnlineProbe(learner.encoder.dim, 4, lr=0.01).to(ranks.device)
    loader = TrainingViews(
        dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=0, world_size=1, seed=0,
        device=ranks.device, num_threads=1,
    )  # fmt: skip
    accumulation = recipe.training.accumulation_steps
    batches = [next(loader) for _ in range(steps * accumulation)]
    views = iter(batches)
    found: list[str] = []
    accelerator = get_accelerator()
    gc.collect()
    gc.disable()  # engines of earlier tests wait for the device when they are thrown away
    try:
        for step in range(steps):
            progress = plan.progress(step)
            with watched() as reads, pytest.MonkeyPatch.context() as patch:
                patch.setattr(accelerator, "synchronize", lambda *device: reads.append("synchronize"))
                done = train_step(
                    engine, views, probe, progress=progress, rates=Rates(lr=0.01), ranks=ranks,  # type: ignore[arg-type]
                    accumulation_steps=accumulation, exact_accumulation=recipe.training.exact_accumulation,
                )  # fmt: skip
                learner.after_step(plan.progress(step + 1), done.skipped)
            found += reads
    finally:
        gc.enable()
        loader.close()
        engine.close()
    return found


def recipe_of(objective: str, **changes: Any) -> Recipe:
    training = {"epochs": 2, "global_batch_size": BATCH, "threads": 1} | changes.pop("training", {})
    return make_recipe(objective, training=training, **changes)


@pytest.mark.parametrize("objective", list(SMALL_OBJECTIVES))
def test_no_step_reads_a_value(objective: str, dataset: Dataset) -> None:
    assert reads_of_steps(recipe_of(objective), dataset) == []


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("swav", {"optimizer": {"name": "larc", "lr": 0.1}, "training": {"clip_gradient_norm": 1.0}}),
        ("byol", {"optimizer": {"name": "sgd", "lr": 0.1}, "training": {"clip_gradient_value": 1.0}}),
        ("dino", {"training": {"accumulation_steps": 2, "precision": "bf16", "on_non_finite": "skip"}}),
        ("simclr", {"training": {"accumulation_steps": 2, "exact_accumulation": True}}),
        ("dissl", {"deepspeed": {"zero_stage": 1}, "training": {"clip_gradient_norm": 1.0}}),
        ("vicreg", {"deepspeed": {"zero_stage": 2}}),
        ("simsiam", {"regularizers": [{"name": "koleo"}, {"name": "ldreg", "num_neighbours": 4}]}),
        ("barlow_twins", {"optimizer": {"name": "adam", "lr": 0.01}, "training": {"kernels": "reference"}}),
    ],
)
def test_no_setting_makes_a_step_read_a_value(objective: str, changes: dict[str, Any], dataset: Dataset) -> None:
    assert reads_of_steps(recipe_of(objective, **changes), dataset) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda loss: loss.item(),
        lambda loss: float(loss.detach()),
        lambda loss: bool(loss > 0),
        lambda loss: loss.detach().cpu(),
        lambda loss: loss.tolist(),
        lambda loss: loss[loss > 0],
    ],
    ids=["item", "float", "bool", "cpu", "tolist", "mask"],
)
def test_every_way_to_read_is_seen(read: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = SimCLR.compare

    def reading(self: SimCLR, *arguments: Any) -> ObjectiveOutput:
        output = healthy(self, *arguments)
        read(output.loss)
        return output

    monkeypatch.setattr(SimCLR, "compare", reading)
    assert len(reads_of_steps(recipe_of("simclr"), dataset)) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("objective", list(SMALL_OBJECTIVES))
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_on_a_gpu_no_step_waits_for_the_device(objective: str, zero_stage: int, dataset: Dataset) -> None:
    if objective == "swav" and zero_stage:
        pytest.skip("SwAV re-normalises prototypes, which ZeRO's copies of them would not notice")
    if SMALL[objective].waits_for_device:
        pytest.skip("torch.linalg reads the error flag of every decomposition (objectives/spectra.py)")
    recipe, ranks = recipe_of(objective, deepspeed={"zero_stage": zero_stage}), start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    loader = TrainingViews(
        dataset.train, recipe.views, batch_size=BATCH, rank=0, world_size=1, seed=0, device=ranks.device, num_threads=1
    )
    views = iter([next(loader) for _ in range(4)])  # the loader waits for its own streams, and is not looked at here
    try:
        for step in range(4):
            # The first two compile kernels and make the optimiser's state.
            torch.cuda.set_sync_debug_mode("error" if step >= 2 else "default")
            done = train_step(
                engine, views, None, progress=plan.progress(step), rates=Rates(lr=0.01), ranks=ranks,  # type: ignore[arg-type]
                accumulation_steps=1,
            )  # fmt: skip
            learner.after_step(plan.progress(step + 1), done.skipped)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        loader.close()
        engine.close()
