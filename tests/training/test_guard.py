"""Steps that are not finite change nothing, on any rank, and are reported: where, and with which images.

A run with such a step left out is compared, to the bit, with one that throws that step's images away.
"""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import issl_engine.optim as optim
from issl_engine.layout import arm_folder
from issl_engine.loading import TrainingViews
from issl_engine.objectives.base import ObjectiveOutput, Progress
from issl_engine.objectives.simclr import SimCLR
from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.rates import Rates
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks, start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.run.resume import check_folder
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.guard import TrainingStopped
from issl_engine.training.learner import Learner
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.step import train_step
from issl_engine.variants import variants

from .conftest import BATCH, make_images, make_recipe

STEPS = 4
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.05},
    "adam": {"name": "adam", "lr": 0.003},
    "adamw": {"name": "adamw", "lr": 0.003},
    "larc": {"name": "larc", "lr": 0.3},
}


def make_ill(learner: Learner, where: str | None, bad_steps: set[int], now: list[int]) -> None:
    """From now on, on this rank, a NaN is added to the loss (whose gradient stays as it is), or one entry of one
    gradient is NaN, when ``now`` holds one of ``bad_steps``."""
    healthy = learner.objective.forward

    def forward(z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        loss, metrics = healthy(z_VBD, teacher_GBP, progress)
        ill = where == "loss" and now[0] in bad_steps
        return ObjectiveOutput(loss + math.nan if ill else loss, metrics)

    def spoil(gradient: Tensor) -> Tensor:
        if where == "gradient" and now[0] in bad_steps:
            gradient = gradient.clone()
            gradient[0, 0, 0, 1] = math.nan
        return gradient

    learner.objective.forward = forward  # type: ignore[method-assign]
    learner.trainable_parameters()[0][1].register_hook(spoil)


def train(
    recipe: Recipe,
    ranks: Ranks,
    *,
    bad_steps: set[int],
    where: str | None,
    ill_rank: int = 0,
    until_read: bool = True,
    norms: list[float] | None = None,
    stopping: bool = False,
) -> tuple[dict[str, Tensor], str]:
    """(everything that training moves, what it stopped with). Without ``where`` the bad steps are thrown away;
    ``norms`` gets each step's gradient norm; ``stopping``: this rank asks to stop at the first step."""
    dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    probe = OnlineProbe(learner.encoder.dim, 4, lr=0.01, group=ranks.group)
    now = [0]
    if ranks.rank == ill_rank:
        make_ill(learner, where, bad_steps, now)
    views = TrainingViews(
        dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank, world_size=ranks.world_size,
        seed=0, device=ranks.device, num_threads=1,
    )  # fmt: skip
    accumulation, message = recipe.training.accumulation_steps, ""
    try:
        for step in range(STEPS):
            now[0] = step
            if where is None and step in bad_steps:
                for _ in range(accumulation):
                    next(views)
                continue
            done = train_step(
                engine, views, probe, progress=plan.progress(step), rates=Rates(lr=plan.peak_lr), ranks=ranks,
                accumulation_steps=accumulation, exact_accumulation=recipe.training.exact_accumulation,
                stopping=stopping and step == 0,
            )  # fmt: skip
            learner.after_step(plan.progress(step + 1), done.skipped)
            if norms is not None:
                norms.append(float(done.metrics["gradient_norm"]))
            if until_read:
                engine.guard.read(ranks, newest=True)
        engine.guard.read(ranks, newest=True)
    except TrainingStopped as error:
        message = str(error)
    finally:
        views.close()
        engine.close()
    state = {name: value.detach().clone() for name, value in learner.state_dict().items()}
    state |= {f"probe.{name}": value.clone() for name, value in probe.state_dict().items() if torch.is_tensor(value)}
    for index, of_weight in enumerate(probe.optimizer.state.values()):
        state |= {f"probe.adam{index}.{name}": value.clone() for name, value in of_weight.items()}
    return state, message or ("asked to stop" if engine.guard.stop_requested else "")


def skipping(optimizer: str, *, zero_stage: int = 0, objective: str = "simclr", **training: Any) -> Recipe:
    settings = {"epochs": 2, "global_batch_size": BATCH, "threads": 1, "on_non_finite": "skip"} | training
    return make_recipe(
        objective, optimizer=OPTIMIZERS[optimizer], training=settings, deepspeed={"zero_stage": zero_stage}
    )


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


CASES = {
    "larc, prototypes and a queue": skipping("larc", objective="swav"),
    "adamw, a teacher and a centre": skipping("adamw", objective="dino"),
    "adam, a teacher": skipping("adam", objective="byol"),
    "sgd, clipped": skipping("sgd", clip_gradient_norm=0.01),
    "adamw, ZeRO 2": skipping("adamw", zero_stage=2, objective="dissl"),
    "sgd, ZeRO 1, clipped": skipping("sgd", zero_stage=1, clip_gradient_norm=0.01),
    "sgd, two passes": skipping("sgd", accumulation_steps=2),
    "adam, ZeRO 2, two passes": skipping("adam", zero_stage=2, accumulation_steps=2),
}


def test_every_optimiser_is_tried_here() -> None:
    assert OPTIMIZERS.keys() == variants(optim, OptimizerConfig).keys()
    assert {case.optimizer.name for case in CASES.values()} == OPTIMIZERS.keys()


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("case", list(CASES))
def test_a_skipped_step_leaves_everything_as_if_it_had_not_been(case: str, where: str) -> None:
    ranks = start_ranks()
    ill, _ = train(CASES[case], ranks, bad_steps={0, 2}, where=where)
    without, _ = train(CASES[case], ranks, bad_steps={0, 2}, where=None)
    assert not differing(ill, without)
    healthy, _ = train(CASES[case], ranks, bad_steps=set(), where=where)
    assert differing(ill, healthy), "leaving out steps made no difference: this test cannot fail"


def test_a_skipped_step_of_exact_accumulation_leaves_everything_as_it_was() -> None:
    recipe, ranks = skipping("sgd", accumulation_steps=2, exact_accumulation=True), start_ranks()
    ill, _ = train(recipe, ranks, bad_steps={1}, where="gradient")
    without, _ = train(recipe, ranks, bad_steps={1}, where=None)
    assert not differing(ill, without)


@pytest.mark.parametrize(
    "case", ["larc, prototypes and a queue", "adamw, a teacher and a centre", "sgd, ZeRO 1, clipped"]
)
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_steps_launched_before_the_host_reads_of_a_failure_change_nothing(case: str, where: str) -> None:
    """On a GPU the host reads a step later; here it reads after the last."""
    recipe = CASES[case]
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"on_non_finite": "stop"})})
    ranks = start_ranks()
    late, message = train(recipe, ranks, bad_steps={1}, where=where, until_read=False)
    before, _ = train(recipe, ranks, bad_steps={1, 2, 3}, where=None)
    assert not differing(late, before)
    assert message.startswith("step 1: ")
    assert message.endswith("; no weight was changed")
    sentence = "the loss is nan for" if where == "loss" else "the loss is finite, but a gradient is not for"
    assert f"{sentence} the images with ids " in message


def test_skipped_steps_are_logged_and_reported_once_then_at_lines(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    healthy = SimCLR.forward
    bad_steps = {2, 3, 4, 6}

    def ill(self: SimCLR, z: Tensor, teacher: Tensor | None, progress: Progress) -> ObjectiveOutput:
        loss, metrics = healthy(self, z, teacher, progress)
        return ObjectiveOutput(loss * (math.nan if progress.step in bad_steps else 1), metrics)

    monkeypatch.setattr(SimCLR, "forward", ill)
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        pretrain(skipping("sgd", log_every_steps=2), dataset, start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # Of steps 3 and 4 none counted: their line waits for the next.
    assert [(record["step"], record["skipped_steps"]) for record in records] == [(2, 0), (6, 3), (8, 1), (10, 0)]
    assert all(math.isfinite(value) for record in records for value in record.values())
    reported = [message for message in caplog.messages if "left out" in message]
    assert [message.split(":")[0] for message in reported] == ["step 2", "step 4", "step 6", "step 8"]
    assert "the loss is nan for the images with ids" in reported[0]
    assert "1 more steps were left out" in reported[1]


def test_after_a_stop_the_same_folder_goes_on_with_skip(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = SimCLR.forward

    def ill(self: SimCLR, z: Tensor, teacher: Tensor | None, progress: Progress) -> ObjectiveOutput:
        loss, metrics = healthy(self, z, teacher, progress)
        return ObjectiveOutput(loss * (math.nan if progress.step == 7 else 1), metrics)

    monkeypatch.setattr(SimCLR, "forward", ill)
    ranks = start_ranks()
    stop, skip = skipping("sgd", on_non_finite="stop"), skipping("sgd")
    folder = arm_folder(tmp_path, "simclr", 0)
    folder.mkdir(parents=True)
    with pytest.raises(TrainingStopped, match=r"or leave such steps out \(training\.on_non_finite=skip\)"):
        pretrain(stop, dataset, ranks, folder=folder, seed=0)
    check_folder(tmp_path, {"simclr": skip})
    assert pretrain(skip, dataset, ranks, folder=folder, seed=0).name == "step_00000010"
    other = skipping("sgd", clip_gradient_norm=1.0)
    with pytest.raises(ValueError, match=r"training\.clip_gradient_norm is null there and 1\.0 here"):
        check_folder(tmp_path, {"simclr": other})


def test_too_many_skipped_steps_in_a_row_stop_training(dataset: Dataset, tmp_path: Path) -> None:
    recipe, ranks = skipping("sgd", max_skipped_steps=3), start_ranks()
    _, message = train(recipe, ranks, bad_steps={1, 2, 3}, where="gradient")
    assert message.startswith("step 3: the loss is finite, but a gradient is not")
    assert "the last of 3 steps in a row that were left out (training.max_skipped_steps)" in message
    _, message = train(recipe, ranks, bad_steps={0, 1, 3}, where="gradient")
    assert not message, "three, but not in a row"


def test_the_gradient_norm_is_that_of_all_gradients_and_is_what_clipping_bounds() -> None:
    ranks = start_ranks()
    moved = []
    for zero_stage in (0, 1, 2):
        recipe = make_recipe(
            optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
            training={"epochs": 2, "global_batch_size": BATCH, "threads": 1, "clip_gradient_norm": 0.01},
            deepspeed={"zero_stage": zero_stage},
        )
        dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
        plan = make_plan(recipe, dataset, ranks)
        learner = build_learner(recipe, plan, ranks, seed=0)
        before = torch.cat([weight.detach().flatten() for _, weight in learner.trainable_parameters()])
        engine = build_engine(learner, recipe, plan)
        views = TrainingViews(
            dataset.train, recipe.views, batch_size=8, rank=0, world_size=1, seed=0, device=ranks.device, num_threads=1
        )
        done = train_step(
            engine, views, None, progress=plan.progress(0), rates=Rates(lr=1.0), ranks=ranks, accumulation_steps=1
        )
        views.close()
        engine.close()
        after = torch.cat([weight.detach().flatten() for _, weight in learner.trainable_parameters()])
        moved.append((after - before).norm().item())
        assert done.metrics["gradient_norm"].item() > 0.1
    assert moved == pytest.approx([0.01] * 3, rel=1e-3)


TWO_RANKS = {
    f"{optimizer}, ZeRO {stage}": (optimizer, stage)
    for optimizer, stage in (("sgd", 0), ("sgd", 2), ("adamw", 2), ("larc", 0))
}


def found_on_rank(ranks: Ranks) -> dict[str, Any]:
    """What this rank of two makes of steps that are not finite; its gradient norms; what it hears of a stop."""
    found: dict[str, Any] = {}
    for name, (optimizer, zero_stage) in TWO_RANKS.items():
        skip = skipping(optimizer, zero_stage=zero_stage)
        stop = skipping(optimizer, zero_stage=zero_stage, on_non_finite="stop")
        without, _ = train(skip, ranks, bad_steps={1}, where=None)
        before, _ = train(skip, ranks, bad_steps={1, 2, 3}, where=None)
        for where in ("loss", "gradient"):
            skipped, _ = train(skip, ranks, bad_steps={1}, where=where, ill_rank=1)
            late, message = train(stop, ranks, bad_steps={1}, where=where, ill_rank=1, until_read=False)
            found[f"{name}, {where}"] = {
                "skip": differing(skipped, without), "stop": differing(late, before), "message": message,
                "moved": len(differing(without, before)),
            }  # fmt: skip
    norms: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for zero_stage, of_steps in norms.items():
        train(skipping("sgd", zero_stage=zero_stage), ranks, bad_steps=set(), where=None, norms=of_steps)
    found["norms"] = list(norms.values())
    _, found["stop"] = train(skipping("sgd"), ranks, bad_steps=set(), where=None, stopping=ranks.rank == 1)
    _, found["no stop"] = train(skipping("sgd"), ranks, bad_steps=set(), where=None)
    return found


@pytest.fixture(scope="module")
def two_ranks(run_ranks: Callable[..., list[Any]]) -> list[dict[str, Any]]:
    return run_ranks(found_on_rank, limit_seconds=300)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("name", list(TWO_RANKS))
def test_a_nan_on_one_rank_of_two_is_left_out_on_both(name: str, where: str, two_ranks: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(two_ranks):
        case = found[f"{name}, {where}"]
        assert case["moved"], "nothing moved at all"
        assert not case["skip"], rank
        assert not case["stop"], rank
        assert case["message"].startswith("step 1: ")


def test_the_rank_whose_loss_is_bad_names_the_images(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["sgd, ZeRO 0, loss"]["message"] for found in two_ranks)
    assert first == "step 1: the loss is not finite on rank 1, which names the images; no weight was changed"
    assert second.startswith("step 1: the loss is nan on rank 1 for the images with ids ")
    assert "a gradient is not (of this rank or another)" in two_ranks[0]["sgd, ZeRO 2, gradient"]["message"]


def test_the_gradient_norm_is_the_same_on_all_ranks_and_with_slices(two_ranks: list[dict[str, Any]]) -> None:
    whole, stage_1, stage_2 = two_ranks[0]["norms"]
    assert two_ranks[1]["norms"] == two_ranks[0]["norms"]
    assert stage_1 == pytest.approx(whole, rel=1e-5)
    assert stage_2 == pytest.approx(whole, rel=1e-5)


def test_all_ranks_hear_that_one_was_asked_to_stop(two_ranks: list[dict[str, Any]]) -> None:
    assert [found["stop"] for found in two_ranks] == ["asked to stop"] * 2
    assert [found["no stop"] for found in two_ranks] == [""] * 2
