"""Settings that trade memory for time or launches: what they keep, and what they change."""

from typing import Any

import pytest
import torch
from torch import Tensor

from issl_engine.optim.rates import Rates
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner, build_views
from issl_engine.training.learner import encode_views
from issl_engine.training.plan import make_plan
from issl_engine.training.step import train_step

from .conftest import BATCH, SMALL_OBJECTIVES, make_recipe


def recipe_of(objective: str, **training: Any) -> Recipe:
    return make_recipe(objective, training={"epochs": 2, "global_batch_size": BATCH, "threads": 1} | training)


def train(recipe: Recipe, dataset: Dataset, *, steps: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """(losses and gradient norms, all state after)."""
    ranks = start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    views = build_views(recipe, dataset, plan, ranks, seed=0)
    seen = []
    for step in range(steps):
        done = train_step(
            engine, views, None, progress=plan.progress(step), rates=Rates(lr=0.003), ranks=ranks,
            accumulation_steps=recipe.training.accumulation_steps,
            exact_accumulation=recipe.training.exact_accumulation,
        )  # fmt: skip
        learner.after_step(plan.progress(step + 1), done.skipped)
        seen += [done.loss, done.metrics["gradient_norm"]]
    views.close()
    engine.close()
    return seen, learner.state_dict()


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("byol", {}),
        ("swav", {"precision": "bf16"}),
        ("simclr", {"accumulation_steps": 2, "exact_accumulation": True}),
        ("dissl", {"view_batching": "each"}),
    ],
)
def test_activation_checkpointing_changes_no_bit_of_training(
    objective: str, settings: dict[str, Any], dataset: Dataset
) -> None:
    _, plain = train(recipe_of(objective, **settings), dataset, steps=3)
    _, recomputed = train(recipe_of(objective, **settings, activation_checkpointing=True), dataset, steps=3)
    assert plain.keys() == recomputed.keys()
    assert [name for name in plain if not torch.equal(plain[name], recomputed[name])] == []


@pytest.mark.parametrize(("recomputed", "times"), [(False, 1), (True, 2)])
def test_the_key_has_blocks_run_a_second_time_in_the_backward_pass(
    recomputed: bool, times: int, dataset: Dataset
) -> None:
    recipe, ranks = recipe_of("simclr", activation_checkpointing=recomputed), start_ranks()
    learner = build_learner(recipe, make_plan(recipe, dataset, ranks), ranks, seed=0)
    calls: list[int] = []
    first = next(module for module in learner.encoder.blocks()[0].modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda *arguments: calls.append(1))
    learner.encoder(torch.randn(2, 3, 16, 16)).sum().backward()
    assert len(calls) == times


def test_views_one_by_one_give_what_views_together_give_in_the_same_order() -> None:
    calls: list[int] = []

    class Means(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            return images.mean((2, 3))

    crops = tuple(torch.randn(count, 5, 3, size, size) for count, size in ((1, 8), (2, 4), (1, 8)))
    z_VBD = encode_views(Means(), crops, view_batching="each")
    assert calls == [5] * 4
    assert torch.equal(z_VBD, encode_views(Means(), crops))


def test_batch_norm_normalises_over_one_view_with_each_and_over_a_size_s_views_without(dataset: Dataset) -> None:
    crops = (torch.randn(2, 8, 3, 16, 16) + torch.tensor([0.0, 3.0]).view(2, 1, 1, 1, 1),)
    encoder = recipe_of("simclr").encoder.build(image_size=16)
    together, each = encode_views(encoder, crops), encode_views(encoder, crops, view_batching="each")
    assert not torch.allclose(together, each, atol=1e-2)
    encoder.eval()
    torch.testing.assert_close(encode_views(encoder, crops), encode_views(encoder, crops, view_batching="each"))


@pytest.mark.parametrize("objective", list(SMALL_OBJECTIVES))
def test_a_step_in_bf16_is_close_to_one_in_fp32_and_its_loss_is_fp32(objective: str, dataset: Dataset) -> None:
    (loss, norm), _ = train(recipe_of(objective), dataset, steps=1)
    (loss_bf16, norm_bf16), state = train(recipe_of(objective, precision="bf16"), dataset, steps=1)
    assert loss_bf16.dtype == torch.float32
    assert not torch.equal(loss_bf16, loss), "nothing ran in bf16"
    assert loss_bf16.item() == pytest.approx(loss.item(), rel=2e-2, abs=2e-2)
    assert norm_bf16.item() == pytest.approx(norm.item(), rel=0.15)
    assert all(value.dtype != torch.bfloat16 for value in state.values()), "weights and statistics stay in fp32"
