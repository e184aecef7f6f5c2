"""Exact accumulation: many small passes give the loss and the gradients of one large one."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import issl_engine.objectives as objectives
from issl_engine.loading import TrainingViews
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.simclr import SimCLR
from issl_engine.optim.rates import Rates
from issl_engine.ranks import Ranks, start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.contrastive_accumulation import AccumulatedLoss, contrastive_accumulation
from issl_engine.training.guard import TrainingStopped
from issl_engine.training.learner import encode_views
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.step import train_step
from issl_engine.training.watch.interruption import Interrupted
from issl_engine.variants import variants
from issl_kernels import info_nce

from .conftest import SMALL, SMALL_OBJECTIVES, make_images, make_recipe
from .test_resume import losses, mkdir, same_weights, stop_at

IMAGES = 16
SIZES = {"eight of two": (2,) * 8, "ragged": (1, 7, 3, 5)}
PROGRESS = Progress(step=0, steps_per_epoch=10, total_steps=100)
CONTRASTIVE = [name for name, small in SMALL.items() if small.compares_embeddings]


class Model(nn.Module):
    """A tiny recipe's encoder and objective, with dropout between them if wanted."""

    def __init__(self, name: str, *, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        recipe = make_recipe(name)
        self.encoder = recipe.encoder.build(image_size=16)
        self.dropout = nn.Dropout(dropout)
        shape = ObjectiveShape(feature_dim=16, num_views=3, num_global_views=2, batch_size=IMAGES)
        self.objective = recipe.objective.build(shape, None)

    def embed(self, crops: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.objective.embed(self.dropout(encode_views(self.encoder, crops)))

    def compare(self, embeddings: tuple[Tensor, ...]) -> ObjectiveOutput:
        return self.objective.compare(embeddings, PROGRESS)

    def gradients(self) -> dict[str, Tensor]:
        found = {name: parameter.grad for name, parameter in self.named_parameters()}
        assert all(gradient is not None for gradient in found.values())
        return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def all_crops(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    sizes = ((2, 16), (1, 12))
    return tuple(torch.randn(v, IMAGES, 3, s, s, generator=generator, dtype=torch.float64).to(dtype) for v, s in sizes)


def in_parts(crops: tuple[Tensor, ...], sizes: tuple[int, ...] = (4,) * 4) -> list[tuple[Tensor, ...]]:
    return list(zip(*(crop.split(sizes, 1) for crop in crops), strict=True))


def accumulate(model: Model, parts: list[tuple[Tensor, ...]]) -> AccumulatedLoss:
    return contrastive_accumulation(parts, model.embed, model.compare, module=model, dim=1)


def in_one_graph(model: Model, parts: list[tuple[Tensor, ...]]) -> Tensor:
    """The definition: the graphs of all micro-batches are kept until the loss is known."""
    embedded = [model.embed(part) for part in parts]
    loss, _ = model.compare(tuple(torch.cat(tensors, 1) for tensors in zip(*embedded, strict=True)))
    loss.backward()
    return loss.detach()


def assert_gradients_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found[name] - gradient).abs().max().item()
        assert error <= tolerance * max(1e-2, gradient.abs().max().item()), (name, error)
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", CONTRASTIVE)
def test_small_passes_equal_a_large_one(
    name: str, dtype: torch.dtype, tolerance: float, sizes: tuple[int, ...]
) -> None:
    model = Model(name).to(dtype).eval()
    crops = all_crops(dtype)
    whole, whole_metrics = model.objective(encode_views(model.encoder, crops), None, PROGRESS)
    whole.backward()
    expected = model.gradients()
    model.zero_grad()
    loss, metrics, _ = accumulate(model, in_parts(crops, sizes))
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(whole.item(), rel=tolerance)
    assert_gradients_close(model.gradients(), expected, tolerance)
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(
        {key: value.item() for key, value in whole_metrics.items()}, rel=1e-4, abs=1e-6
    )


def test_plain_accumulation_is_something_else() -> None:
    """So that the tests above cannot pass by a loss to which the other images do not matter."""
    model = Model("simclr").eval()
    loss, _, _ = accumulate(model, in_parts(all_crops()))
    plain = torch.stack([model.compare(model.embed(part)).loss for part in in_parts(all_crops())]).mean()
    assert plain < loss - 0.5


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_with_dropout_and_batch_norm_gradients_are_those_of_one_graph(name: str) -> None:
    model = Model(name, dropout=0.3).double().train()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    parts = in_parts(all_crops(torch.float64))
    torch.manual_seed(5)
    expected_loss, expected = in_one_graph(model, parts), model.gradients()
    expected_state, expected_draw = {k: v.clone() for k, v in model.state_dict().items()}, torch.rand(3)
    model.zero_grad()
    model.load_state_dict(start)
    torch.manual_seed(5)
    loss, _, replay_error = accumulate(model, parts)
    assert torch.equal(loss, expected_loss)
    assert_gradients_close(model.gradients(), expected, 1e-12)
    assert replay_error == 0
    # The generator and the running statistics are where one pass leaves them.
    assert torch.equal(torch.rand(3), expected_draw)
    assert all(torch.equal(value, expected_state[key]) for key, value in model.state_dict().items())
    tracked = [value.item() for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")]
    # The encoder's batch-norms see two crop sizes a micro-batch, those of the heads all crops at once.
    assert set(tracked) == {len(parts), 2 * len(parts)}


def test_the_second_pass_draws_the_dropout_of_the_first() -> None:
    model = Model("simclr", dropout=0.5).eval()
    model.dropout.train()
    drawn: list[tuple[Tensor, ...]] = []
    states: list[Tensor] = []

    def embed(part: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        drawn.append(model.embed(part))
        return drawn[-1]

    def compare(embeddings: tuple[Tensor, ...]) -> ObjectiveOutput:
        torch.rand(7)  # moves the generator between the passes
        states.append(torch.get_rng_state())
        return model.compare(embeddings)

    parts = [in_parts(all_crops())[0]] * 3  # the same images, so that only the dropout distinguishes them
    result = contrastive_accumulation(parts, embed, compare, module=model, dim=1)
    first, second = [pair[0] for pair in drawn[:3]], [pair[0] for pair in drawn[3:]]
    assert len(second) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(a.requires_grad for a in first)
    assert not torch.equal(first[0], first[1])
    assert result.replay_error == 0
    assert torch.equal(torch.get_rng_state(), states[0])


def test_replay_error_says_how_far_the_passes_differ() -> None:
    model, calls = nn.Linear(3, 2), []

    def embed(rows: Tensor) -> tuple[Tensor, ...]:
        calls.append(rows)
        return (model(rows) + (0.25 if len(calls) == 4 else 0),)

    rows = torch.randn(4, 3)
    result = contrastive_accumulation(rows.split(2), embed, lambda e: (e[0].square().sum(), {}), module=model)
    assert result.replay_error.item() == pytest.approx(0.25)


def test_running_statistics_survive_an_error_in_the_first_pass() -> None:
    model = Model("simclr").train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    bad = (torch.zeros(2, 4, 5, 16, 16), torch.zeros(1, 4, 5, 12, 12))
    with pytest.raises(RuntimeError, match="channels"):
        accumulate(model, [*in_parts(all_crops()), bad])
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("parts", [1, 4])
def test_parameters_of_the_loss_get_their_gradient(parts: int) -> None:
    torch.manual_seed(0)
    weight, log_temperature = nn.Linear(6, 4).double(), nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))
    unused = nn.Parameter(torch.ones(()))
    rows = torch.randn(2, 8, 6, dtype=torch.float64)

    def embed(rows_VBD: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.normalize(weight(rows_VBD), dim=-1),)

    def compare(embeddings: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        (z,) = embeddings
        # The head's bias is a parameter of both: its gradient has two parts.
        extra = weight.bias.square().sum()
        return info_nce(z, z, temperature=log_temperature.exp(), keep_self=False) + extra, {}

    compare(embed(rows))[0].backward()
    everything = [*weight.parameters(), log_temperature]
    expected = [parameter.grad.clone() for parameter in everything if parameter.grad is not None]
    for parameter in everything:
        parameter.grad = None
    contrastive_accumulation(rows.split(8 // parts, 1), embed, compare, module=weight, dim=1)
    for parameter, gradient in zip(everything, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)
    assert unused.grad is None


def test_labels_may_travel_with_the_embeddings() -> None:
    torch.manual_seed(0)
    head = nn.Linear(6, 4).double()
    rows, labels = torch.randn(2, 8, 6, dtype=torch.float64), torch.arange(8) % 3

    def embed(part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return nn.functional.normalize(head(part[0]), dim=-1), part[1][None]

    def compare(embeddings: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        z, (labels_B,) = embeddings
        return info_nce(z, z, temperature=0.5, keep_self=False, labels_B=labels_B), {}

    compare(embed((rows, labels)))[0].backward()
    assert head.weight.grad is not None
    expected = head.weight.grad.clone()
    head.zero_grad()
    contrastive_accumulation(
        list(zip(rows.split(2, 1), labels.split(2), strict=True)), embed, compare, module=head, dim=1
    )
    torch.testing.assert_close(head.weight.grad, expected, rtol=1e-10, atol=1e-12)


def test_autocast_is_that_of_the_caller_in_both_passes() -> None:
    model = Model("cissl").eval()
    parts, dtypes = in_parts(all_crops()), set()
    model.encoder.register_forward_hook(lambda _, __, z: dtypes.add(z.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        expected_loss = in_one_graph(model, parts)
    expected = model.gradients()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, replay_error = accumulate(model, parts)
    assert dtypes == {torch.bfloat16}
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6)
    # Casts of the weights are made anew for each backward pass, so bf16 sums are rounded in other places.
    assert_gradients_close(model.gradients(), expected, 3e-2)
    assert replay_error == 0


@pytest.mark.gpu
def test_the_gpus_dropout_is_replayed() -> None:
    model = Model("simclr", dropout=0.5).cuda().train()
    parts = [tuple(crop.cuda() for crop in part) for part in in_parts(all_crops())]
    torch.manual_seed(5)
    expected_loss, expected = in_one_graph(model, parts), model.gradients()
    model.zero_grad()
    torch.manual_seed(5)
    loss, _, replay_error = accumulate(model, parts)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)
    assert replay_error.item() < 1e-4
    assert_gradients_close(model.gradients(), expected, 1e-2)


def scalar(embeddings: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    return embeddings[0].square().sum(), {}


HEAD = nn.Linear(3, 2)
Misuse = tuple[str, list[Tensor], Callable[[Tensor], Any], Callable[..., Any], str]
MISUSES: list[Misuse] = [
    ("none", [], lambda x: (HEAD(x),), scalar, "got no micro-batches; give it at least one"),
    ("no tuple", [torch.ones(2, 3)], HEAD, scalar, "embed must give a tuple of tensors, at least one, not Tensor"),
    ("empty tuple", [torch.ones(2, 3)], lambda x: (), scalar, "embed must give a tuple of tensors, at least one"),
    (
        "unequal", [torch.ones(2, 3), torch.ones(2, 2, 3)], lambda x: (HEAD(x),), scalar,
        r"embeddings of shapes \[2, 2\], \[2, 2, 2\] cannot be joined along dim 0; give them the images",
    ),
    (
        "no scalar", [torch.ones(2, 3)], lambda x: (HEAD(x),), lambda e: (e[0], {}),
        r"compare must give a scalar loss, not one of shape \[2, 2\]",
    ),
    (
        "detached loss", [torch.ones(2, 3)], lambda x: (HEAD(x),), lambda e: (e[0].detach().sum(), {}),
        "compare gave a loss without gradient; compute it from the embeddings",
    ),
    (
        "detached embeddings", [torch.ones(2, 3)], lambda x: (HEAD(x).detach(),), scalar,
        "embed gave tensors without gradient; let it use weights",
    ),
]  # fmt: skip


@pytest.mark.parametrize("misuse", MISUSES, ids=[misuse[0] for misuse in MISUSES])
def test_misuse_is_named(misuse: Misuse) -> None:
    _, batches, embed, compare, sentence = misuse
    with pytest.raises(ValueError, match=sentence):
        contrastive_accumulation(batches, embed, compare, module=HEAD)


def test_a_stream_in_place_of_micro_batches_is_named() -> None:
    stream = iter([torch.ones(2, 3), torch.ones(1, 3)])
    with pytest.raises(ValueError, match=r"shapes \[\[2, 2\]\] at first and \[\[1, 2\]\] for the same micro-batch"):
        contrastive_accumulation([None], lambda _: (HEAD(next(stream)),), scalar, module=HEAD)


# The recipe key


def training(accumulation: int, **changes: Any) -> dict[str, Any]:
    plain = {"epochs": 2, "global_batch_size": 8, "accumulation_steps": accumulation, "log_every_steps": 1}
    return plain | {"exact_accumulation": True, "threads": 1} | changes


class LearntTemperature(SimCLR):
    """The temperature is a parameter, which the loss alone uses."""

    learnt: nn.Parameter

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        (z,) = embeddings
        loss = info_nce(z, z[: self.num_global_views], temperature=self.learnt, keep_self=False, group=self.group)
        return ObjectiveOutput(loss, {})


def run_steps(
    objective: str,
    accumulation: int,
    ranks: Ranks,
    dataset: Dataset,
    *,
    zero_stage: int = 0,
    exchange: str = "gather",
    learnt_temperature: bool = False,
) -> dict[str, list[float]]:
    """Losses, the last metrics and the weights of three SGD steps with batch-norm in eval mode."""
    recipe = make_recipe(
        objective,
        objective=SMALL_OBJECTIVES[objective] | {"exchange": exchange},
        training=training(accumulation),
        optimizer={"name": "sgd", "lr": 0.05},
        deepspeed={"zero_stage": zero_stage},
    )
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    if learnt_temperature:
        learner.objective.__class__ = LearntTemperature
        learner.objective.learnt = nn.Parameter(torch.tensor([0.2]))
    engine = build_engine(learner, recipe, plan)
    learner.eval()
    views = TrainingViews(
        dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank, world_size=ranks.world_size,
        seed=0, device=ranks.device, num_threads=1,
    )  # fmt: skip
    steps = [
        train_step(
            engine, views, None, progress=plan.progress(step), rates=Rates(lr=0.05), ranks=ranks,
            accumulation_steps=accumulation, exact_accumulation=True,
        )
        for step in range(3)
    ]  # fmt: skip
    views.close()
    engine.close()
    metrics = {key: float(value) for key, value in sorted(steps[-1].metrics.items()) if key != "replay_error"}
    return {
        "losses": [float(step.loss) for step in steps],
        "metrics": [*metrics.values(), learner.objective.collapse_loss or 0.0],
        "weights": torch.cat([p.detach().flatten() for _, p in learner.trainable_parameters()]).tolist(),
        "temperature": [learner.objective.learnt.item()] if learnt_temperature else [],
    }


def assert_same_run(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-3, abs=1e-5)
    assert found["weights"] == pytest.approx(expected["weights"], rel=1e-4, abs=1e-5)
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-5)


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
@pytest.mark.parametrize("objective", CONTRASTIVE)
def test_the_engines_steps_equal_those_of_a_large_batch(objective: str, zero_stage: int, dataset: Dataset) -> None:
    whole = run_steps(objective, 1, start_ranks(), dataset)
    assert_same_run(run_steps(objective, 4, start_ranks(), dataset, zero_stage=zero_stage), whole)


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_the_engine_trains_a_temperature_that_only_the_loss_uses(zero_stage: int, dataset: Dataset) -> None:
    whole = run_steps("simclr", 1, start_ranks(), dataset, learnt_temperature=True)
    parts = run_steps("simclr", 4, start_ranks(), dataset, zero_stage=zero_stage, learnt_temperature=True)
    assert abs(whole["temperature"][0] - 0.2) > 1e-3
    assert_same_run(parts, whole)


RANK_CASES: dict[str, dict[str, Any]] = {
    "simclr": {"objective": "simclr", "zero_stage": 2},
    "cissl in a ring": {"objective": "cissl", "exchange": "ring"},
    "learnt temperature": {"objective": "simclr", "zero_stage": 1, "learnt_temperature": True},
}


def tiny_dataset() -> Dataset:
    return Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))


def results_on_rank(ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    """Two micro-batches of two images on each of two ranks: the eight images of a step."""
    return {
        name: run_steps(accumulation=2, ranks=ranks, dataset=tiny_dataset(), **case)
        for name, case in RANK_CASES.items()
    }


@pytest.fixture(scope="module")
def ranks_results(run_ranks: Callable[..., list[Any]]) -> list[dict[str, dict[str, list[float]]]]:
    return run_ranks(results_on_rank, limit_seconds=300)


@pytest.mark.parametrize("case", RANK_CASES)
def test_two_ranks_of_two_passes_equal_one_process_with_all(
    case: str, ranks_results: list[dict[str, dict[str, list[float]]]]
) -> None:
    settings = {key: value for key, value in RANK_CASES[case].items() if key not in ("zero_stage", "exchange")}
    one = run_steps(accumulation=1, ranks=start_ranks(), dataset=tiny_dataset(), **settings)
    for two in ranks_results:
        assert_same_run(two[case], one)


def test_a_run_logs_what_compared_all_images(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(make_recipe(training=training(2)), dataset, start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 11))
    assert {"loss", "images_per_second", "data_fraction", "online_top1", "online_loss"} <= records[-1].keys()
    for record in records:
        assert record["negatives"] == 14  # two global views of the seven other images
        assert record["collapse_loss"] == pytest.approx((2 * math.log(15) + math.log(16)) / 3)
        assert record["mutual_information_bound"] == pytest.approx(record["collapse_loss"] - record["loss"], abs=1e-5)
        assert record["replay_error"] == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_equals_uninterrupted(precision: str, dataset: Dataset, tmp_path: Path) -> None:
    recipe, ranks = make_recipe("cissl", training=training(2, precision=precision)), start_ranks()
    whole = pretrain(recipe, dataset, ranks, folder=mkdir(tmp_path / "whole"), seed=3)
    parts = mkdir(tmp_path / "parts")
    with pytest.raises(Interrupted, match="step 3 of 10"):
        pretrain(recipe, dataset, ranks, folder=parts, seed=3, on_log=stop_at(3))
    resumed = pretrain(recipe, dataset, ranks, folder=parts, seed=3)
    assert losses(parts) == losses(tmp_path / "whole")
    assert same_weights(whole, resumed)


def test_one_accumulation_step_is_left_as_it_is(dataset: Dataset, tmp_path: Path) -> None:
    ranks = start_ranks()
    plain = make_recipe(training=training(1, exact_accumulation=False))
    first = pretrain(plain, dataset, ranks, folder=mkdir(tmp_path / "a"), seed=0)
    second = pretrain(make_recipe(training=training(1)), dataset, ranks, folder=mkdir(tmp_path / "b"), seed=0)
    assert same_weights(first, second)


def test_single_images_can_be_compared_across_passes(dataset: Dataset) -> None:
    recipe = make_recipe(training=training(8))
    build_learner(recipe, make_plan(recipe, dataset, start_ranks()), start_ranks(), seed=0)
    plain = make_recipe(training=training(8, exact_accumulation=False))
    with pytest.raises(ValueError, match="compares different images, and a forward pass holds only one"):
        build_learner(plain, make_plan(plain, dataset, start_ranks()), start_ranks(), seed=0)


def test_nan_loss_stops_before_any_weight_changes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = SimCLR.compare

    def ill(self: SimCLR, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        loss, metrics = healthy(self, embeddings, progress)
        return ObjectiveOutput(loss * math.nan, metrics)

    monkeypatch.setattr(SimCLR, "compare", ill)
    recipe, ranks = make_recipe(training=training(4)), start_ranks()
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    engine = build_engine(learner, recipe, plan)
    views = TrainingViews(
        dataset.train, recipe.views, batch_size=2, rank=0, world_size=1, seed=0, device=ranks.device, num_threads=1
    )
    train_step(
        engine, views, None, progress=plan.progress(0), rates=Rates(lr=1.0), ranks=ranks, accumulation_steps=4,
        exact_accumulation=True,
    )  # fmt: skip
    with pytest.raises(TrainingStopped, match=r"step 0: the loss is nan for the images with ids (\d+, ){7}\d+;"):
        engine.guard.read(ranks, newest=True)
    views.close()
    engine.close()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("objective", [name for name in SMALL_OBJECTIVES if name not in CONTRASTIVE])
def test_objectives_that_are_not_contrastive_are_refused(objective: str) -> None:
    sentence = (
        r"training\.exact_accumulation is for contrastive objectives \(aninfonce, cissl, simclr\), and "
        rf"objective\.name is {objective}; set training\.exact_accumulation to false or choose one of those"
    )
    with pytest.raises(ValidationError, match=sentence):
        make_recipe(objective, training=training(2))


def test_the_configs_that_say_so_have_embeddings() -> None:
    said = {n for n, config in variants(objectives, ObjectiveConfig).items() if config.loss_compares_embeddings}
    assert said == set(CONTRASTIVE)
    shape = ObjectiveShape(feature_dim=16, num_views=3, num_global_views=2, batch_size=4, num_images=64)
    for name in SMALL_OBJECTIVES:
        built = type(make_recipe(name).objective.build(shape, None))
        assert (built.embed is not Objective.embed) == (built.compare is not Objective.compare) == (name in said)
