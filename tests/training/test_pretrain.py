"""What the training loop promises beyond resuming: it learns, stops on bad losses, freezes, warns."""

import dataclasses
import json
import logging
import math
from pathlib import Path

import pytest
import torch

from issl_engine.loading import TrainingViews
from issl_engine.objectives import simclr
from issl_engine.objectives.base import ObjectiveOutput, Progress
from issl_engine.optim.rates import Rates
from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.checkpoints.verify import latest_checkpoint
from issl_engine.training.guard import TrainingStopped
from issl_engine.training.learner import encode_views
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.step import train_step
from issl_engine.training.watch.alarms import CollapseAlarm

from .conftest import SMALL_OBJECTIVES, make_recipe


@pytest.mark.parametrize("objective", list(SMALL_OBJECTIVES))
def test_every_objective_trains_and_writes_its_metrics(objective: str, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = pretrain(make_recipe(objective), dataset, start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 11))
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert {"loss", "lr", "images_per_second", "data_fraction", "online_top1"} <= records[-1].keys()
    assert checkpoint.name == "step_00000010"


def test_contrastive_loss_falls(dataset: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(training={"epochs": 16, "global_batch_size": 8, "log_every_steps": 5, "threads": 1})
    pretrain(recipe, dataset, start_ranks(), folder=tmp_path, seed=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.1


def test_nan_loss_stops_with_step_ids_and_last_good_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = simclr.SimCLR.forward

    def ill(self: simclr.SimCLR, z: torch.Tensor, teacher: torch.Tensor | None, progress: Progress) -> ObjectiveOutput:
        loss, metrics = healthy(self, z, teacher, progress)
        return ObjectiveOutput(loss * (math.nan if progress.step == 7 else 1), metrics)

    monkeypatch.setattr(simclr.SimCLR, "forward", ill)
    with pytest.raises(TrainingStopped, match=r"step 7: the loss is nan for the images with ids \d+.*step_00000005"):
        pretrain(make_recipe("simclr"), dataset, start_ranks(), folder=tmp_path, seed=0)
    found = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found.name == "step_00000005"


def test_frozen_prototypes_do_not_move_until_their_step(dataset: Dataset) -> None:
    recipe = make_recipe(
        objective={"name": "swav", "num_prototypes": 12, "freeze_prototypes_steps": 3},
        optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    )
    ranks = start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    views = TrainingViews(
        dataset.train, recipe.views, batch_size=8, rank=0, world_size=1, seed=0, device=ranks.device, num_threads=1
    )
    prototypes = next(p for name, p in learner.objective.named_parameters() if "prototypes" in name)
    start = prototypes.detach().clone()
    moved = []
    for step in range(5):
        train_step(
            engine, views, None, progress=plan.progress(step), rates=Rates(lr=0.01), ranks=ranks, accumulation_steps=1
        )
        learner.after_step(plan.progress(step + 1))
        moved.append((prototypes - start).abs().max().item())
    views.close()
    engine.close()
    assert max(moved[:3]) < 1e-6 < moved[4]
    assert torch.allclose(prototypes.norm(dim=1), torch.ones(12), atol=1e-5)


def test_views_of_one_size_share_a_forward_pass_and_keep_their_order() -> None:
    calls: list[int] = []

    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return images.mean((2, 3))

    crops = tuple(torch.randn(count, 5, 3, size, size) for count, size in ((1, 8), (2, 4), (1, 8)))
    z = encode_views(Means(), crops)
    assert calls == [10, 10]
    assert torch.allclose(z, torch.cat([crop.mean((3, 4)) for crop in crops]))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_zero_stages_train_alike_on_one_rank(stage: int, dataset: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(deepspeed={"zero_stage": stage})
    plain = make_recipe()
    first, second = tmp_path / "plain", tmp_path / "zero"
    first.mkdir()
    second.mkdir()
    pretrain(plain, dataset, start_ranks(), folder=first, seed=0)
    pretrain(recipe, dataset, start_ranks(), folder=second, seed=0)
    a, b = (
        [json.loads(line)["loss"] for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (first, second)
    )
    assert a == pytest.approx(b, rel=1e-5)


def test_bf16_autocast_trains(dataset: Dataset, tmp_path: Path) -> None:
    recipe = make_recipe(
        training={"epochs": 1, "global_batch_size": 8, "precision": "bf16", "log_every_steps": 1, "threads": 1}
    )
    pretrain(recipe, dataset, start_ranks(), folder=tmp_path, seed=0)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


def test_gradient_value_clip_bounds_what_the_optimiser_sees(dataset: Dataset) -> None:
    recipe = make_recipe(
        training={"epochs": 1, "global_batch_size": 8, "clip_gradient_value": 1e-4, "threads": 1},
        optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
    )
    ranks = start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    before = {name: p.detach().clone() for name, p in learner.trainable_parameters()}
    engine = build_engine(learner, recipe, plan)
    views = TrainingViews(
        dataset.train, recipe.views, batch_size=8, rank=0, world_size=1, seed=0, device=ranks.device, num_threads=1
    )
    train_step(engine, views, None, progress=plan.progress(0), rates=Rates(lr=1.0), ranks=ranks, accumulation_steps=1)
    views.close()
    engine.close()
    moved = max((p - before[name]).abs().max().item() for name, p in learner.trainable_parameters())
    assert moved == pytest.approx(1e-4, rel=1e-2)


def test_collapse_alarm_rings_once_and_only_at_the_plateau(caplog: pytest.LogCaptureFixture) -> None:
    alarm = CollapseAlarm(math.log(100), "lower objective.epsilon")
    assert not any(alarm.observe(3.0, step) for step in range(300))
    rung = [alarm.observe(math.log(100) + 0.001, step) for step in range(300, 600)]
    assert rung.index(True) == 99
    assert rung.count(True) == 1
    assert "lower objective.epsilon" in caplog.text


def test_collapse_alarm_rings_for_losses_below_zero_too() -> None:
    alarm = CollapseAlarm(-8.0, "lower optimizer.lr")
    assert not any(alarm.observe(-8.5, step) for step in range(200))
    assert any(alarm.observe(-8.01, step) for step in range(200, 400))


def test_batch_larger_than_data_is_refused(dataset: Dataset) -> None:
    recipe = make_recipe(training={"epochs": 1, "global_batch_size": 64})
    with pytest.raises(ValueError, match=r"global_batch_size \(64\) is larger than the training split .*40 images"):
        make_plan(recipe, dataset, start_ranks())


@pytest.mark.parametrize(("batch", "said"), [(12, 1), (8, 0)])
def test_images_that_wait_for_another_epoch_are_counted_once(
    batch: int, said: int, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = {"epochs": 2, "global_batch_size": batch, "threads": 1}
    with caplog.at_level(logging.INFO, logger="issl_engine"):
        pretrain(make_recipe(training=training), dataset, start_ranks(), folder=tmp_path, seed=0)
    line = "4 of 40 images wait for another epoch each time, as the last batch would be incomplete"
    assert caplog.messages.count(line) == said
    assert caplog.text.count("wait for another epoch") == said


def test_accumulated_steps_equal_whole_ones(dataset: Dataset) -> None:
    """BYOL's loss is a mean over images, and batch-norm uses its running statistics here: the halves add up."""
    weights = []
    for accumulation in (1, 2):
        training = {"epochs": 2, "global_batch_size": 8, "accumulation_steps": accumulation, "threads": 1}
        recipe = make_recipe("byol", training=training, optimizer={"name": "sgd", "lr": 0.1})
        ranks = start_ranks()
        plan = make_plan(recipe, dataset, ranks)
        learner = build_learner(recipe, plan, ranks, seed=0)
        engine = build_engine(learner, recipe, plan)
        learner.eval()
        views = TrainingViews(
            dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=0, world_size=1, seed=0,
            device=ranks.device, num_threads=1,
        )  # fmt: skip
        for step in range(3):
            progress = plan.progress(step)
            train_step(
                engine,
                views,
                None,
                progress=progress,
                rates=Rates(lr=0.1),
                ranks=ranks,
                accumulation_steps=accumulation,
            )
            learner.after_step(plan.progress(step + 1))
        views.close()
        engine.close()
        weights.append(torch.cat([p.detach().flatten() for _, p in learner.trainable_parameters()]))
    assert torch.allclose(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_ranks_start_alike_and_then_draw_apart(dataset: Dataset) -> None:
    """Whatever an encoder draws while it trains, such as dropped paths, must differ between ranks."""
    recipe, alone = make_recipe("byol"), start_ranks()
    plan = make_plan(recipe, dataset, alone)
    weights, draws = [], []
    for rank in range(3):
        learner = build_learner(recipe, plan, dataclasses.replace(alone, rank=rank, world_size=3), seed=5)
        weights.append(torch.cat([weight.detach().flatten() for weight in learner.parameters()]))
        draws.append(torch.rand(100))
    assert all(torch.equal(other, weights[0]) for other in weights[1:])
    assert len({tuple(drawn.tolist()) for drawn in draws}) == 3


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("objective", "optimizer"), [("swav", "adamw"), ("dino", "larc")])
def test_prototypes_and_norms_of_layers_are_those_without_zero(
    objective: str, optimizer: str, stage: int, dataset: Dataset, tmp_path: Path
) -> None:
    """The whole loop: SwAV's prototypes are put back on the sphere after each step, which large steps make matter."""
    optimizers = {"adamw": {"name": "adamw", "lr": 0.05}, "larc": {"name": "larc", "lr": 1.0, "weight_decay": 1e-3}}
    losses = []
    for zero_stage in (0, stage):
        folder = tmp_path / str(zero_stage)
        folder.mkdir()
        settings = SMALL_OBJECTIVES[objective] | ({"freeze_prototypes_steps": 3} if objective == "swav" else {})
        recipe = make_recipe(objective=settings, optimizer=optimizers[optimizer], deepspeed={"zero_stage": zero_stage})
        pretrain(recipe, dataset, start_ranks(), folder=folder, seed=0)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
