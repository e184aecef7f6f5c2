"""Compiled encoder and heads train as uncompiled ones, are compiled once, and are done without where that fails.

The graphs of most tests here are run by torch's own operators ("aot_eager"), as the C++ compiler takes a minute.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from pydantic import ValidationError
from torch import nn
from torch._dynamo.utils import counters

from issl_engine.optim.rates import Rates
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner, build_views
from issl_engine.training.checkpoints.encoder import load_encoder
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.step import train_step

from .conftest import BATCH, make_recipe


def recipe_of(objective: str = "simclr", *, zero_stage: int = 0, **training: Any) -> Recipe:
    settings = {"epochs": 2, "global_batch_size": BATCH, "threads": 1} | training
    return make_recipe(objective, training=settings, deepspeed={"zero_stage": zero_stage})


def train(recipe: Recipe, dataset: Dataset, *, steps: int = 4) -> tuple[list[float], list[int], list[str]]:
    """(losses, graphs that were compiled by the end of each step, names of all state)."""
    ranks = start_ranks()
    torch.compiler.reset()
    counters.clear()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    views = build_views(recipe, dataset, plan, ranks, seed=0)
    losses, graphs = [], []
    for step in range(steps):
        done = train_step(
            engine, views, None, progress=plan.progress(step), rates=Rates(lr=0.003), ranks=ranks,
            accumulation_steps=recipe.training.accumulation_steps,
            exact_accumulation=recipe.training.exact_accumulation,
        )  # fmt: skip
        learner.after_step(plan.progress(step + 1), done.skipped)
        losses.append(float(done.loss))
        graphs.append(counters["stats"]["unique_graphs"])
    views.close()
    engine.close()
    return losses, graphs, list(learner.state_dict())


@pytest.fixture
def quick_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nn.Module.compile

    def compile_quickly(self: nn.Module, *, mode: str, dynamic: bool) -> None:
        made(self, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(nn.Module, "compile", compile_quickly)


@pytest.mark.parametrize(("objective", "zero_stage"), [("simclr", 0), ("dino", 2)])
@pytest.mark.usefixtures("quick_backend")
def test_all_is_compiled_before_the_first_step_and_nothing_after_it(
    objective: str, zero_stage: int, dataset: Dataset
) -> None:
    plain, none, names = train(recipe_of(objective, zero_stage=zero_stage), dataset)
    compiled, graphs, compiled_names = train(recipe_of(objective, zero_stage=zero_stage, compile=True), dataset)
    assert none == [0] * 4
    # Two sizes of crops, and a head.
    assert graphs == [3] * 4
    assert compiled == pytest.approx(plain, rel=1e-5)
    assert compiled_names == names


@pytest.mark.usefixtures("quick_backend")
def test_compiling_moves_no_weight_statistic_or_random_number(dataset: Dataset) -> None:
    recipe, ranks = recipe_of(compile=True), start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    random = torch.get_rng_state()
    engine = build_engine(learner, recipe, plan)
    assert learner.encoder._compiled_call_impl is not None
    assert torch.equal(torch.get_rng_state(), random)
    assert [name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])] == []
    assert all(weight.grad is None for weight in learner.parameters())
    engine.close()


@pytest.mark.usefixtures("quick_backend")
def test_exact_accumulation_compiles_its_pass_without_a_graph_once(dataset: Dataset) -> None:
    settings = {"accumulation_steps": 2, "exact_accumulation": True}
    plain, _, _ = train(recipe_of(**settings), dataset)
    compiled, graphs, _ = train(recipe_of(**settings, compile=True), dataset)
    assert len(set(graphs)) == 1
    assert compiled == pytest.approx(plain, rel=1e-5)


@pytest.mark.usefixtures("quick_backend")
def test_checkpoints_are_those_of_uncompiled_training(dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = pretrain(recipe_of(compile=True, epochs=1), dataset, start_ranks(), folder=tmp_path, seed=0)
    encoder, _, _ = load_encoder(checkpoint)
    assert encoder(torch.zeros(2, 3, 16, 16)).shape == (2, 16)


def test_a_missing_compiler_is_reported_once_and_training_goes_on(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    plain, _, _ = train(recipe_of(), dataset)
    no_compiler = {"cpp.cxx": (None, "nonexistent"), "force_disable_caches": True}
    with torch._inductor.config.patch(no_compiler), caplog.at_level(logging.WARNING, logger="issl_engine"):
        without, graphs, _ = train(recipe_of(compile=True), dataset)
    (reported,) = [message for message in caplog.messages if "compil" in message]
    assert reported.startswith("training.compile: compiling failed, so training goes on without it (")
    assert "No working C++ compiler found" in reported
    assert without == plain, "to the bit: weights, statistics and random numbers are as they were"
    assert graphs[0] == graphs[-1]


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_of_the_c_compiler_train_alike(precision: str, dataset: Dataset) -> None:
    plain, _, _ = train(recipe_of(precision=precision), dataset)
    compiled, graphs, _ = train(recipe_of(precision=precision, compile=True), dataset)
    assert graphs == [3] * 4
    assert compiled == pytest.approx(plain, rel=1e-5 if precision == "fp32" else 2e-2)


def test_cuda_graphs_are_refused_on_a_cpu(dataset: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, where they are not refused")
    with pytest.raises(ValueError, match=r"compile_mode reduce-overhead records CUDA graphs, which need an NVIDIA GPU"):
        train(recipe_of(compile=True, compile_mode="reduce-overhead"), dataset)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"compile_mode": "max-autotune"}, "compile_mode max-autotune has no effect without compile"),
        (
            {"compile": True, "activation_checkpointing": True},
            "compile and activation_checkpointing do not work together",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        recipe_of(**settings)


@pytest.mark.gpu
@pytest.mark.parametrize("objective", ["simclr", "dino"])
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_on_a_gpu_compiled_training_equals_uncompiled(objective: str, mode: str, dataset: Dataset) -> None:
    plain, _, _ = train(recipe_of(objective), dataset, steps=6)
    compiled, graphs, _ = train(recipe_of(objective, compile=True, compile_mode=mode), dataset, steps=6)
    assert graphs[0] == graphs[-1]
    assert compiled == pytest.approx(plain, rel=1e-3)
