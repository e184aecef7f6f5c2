"""What every objective owes the training loop: names, help texts, metrics, collapse values, clear errors."""

import copy
import dataclasses
import math

import pytest
import torch
from pydantic import ValidationError

import issl_engine.objectives as objectives
from issl_engine.config import Config
from issl_engine.objectives.base import Objective, ObjectiveConfig
from issl_engine.variants import variants

from .conftest import build, config, features, forward, progress, shape, teacher_output
from .small_objectives import SMALL

NAMES = list(SMALL)


def names_with(trait: str) -> list[str]:
    return [name for name, small in SMALL.items() if getattr(small, trait)]


def run(objective: Objective, views: int = 2, step: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    z = features(views)
    return forward(objective, z, teacher_output(objective, z), progress(step))


def test_recipes_can_name_all_objectives() -> None:
    assert set(variants(objectives, ObjectiveConfig)) == set(NAMES), "each has one entry in small_objectives.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_key_has_a_help_text(name: str) -> None:
    fields = variants(objectives, ObjectiveConfig)[name].model_fields
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_published_defaults_build(name: str) -> None:
    with torch.device("meta"):
        objective = variants(objectives, ObjectiveConfig)[name]().build(shape(2), None)
    assert sum(parameter.numel() for parameter in objective.parameters()) > 0


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_detached_finite_scalars(name: str, views: int) -> None:
    loss, metrics = run(build(name, views), views)
    assert loss.shape == ()
    assert loss.requires_grad
    assert set(metrics) == SMALL[name].metrics
    for key, value in metrics.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        assert value.isfinite(), key


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient(name: str) -> None:
    objective = build(name, 4)
    run(objective, 4)[0].backward()
    for key, parameter in objective.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_its_config_says_whether_it_has_a_predictor(name: str) -> None:
    has = any(weight.startswith("predictor.") for weight, _ in build(name).named_parameters())
    assert config(name).has_predictor == has


@pytest.mark.parametrize("name", NAMES)
def test_undecayed_weights_exist(name: str) -> None:
    objective = build(name)
    assert objective.no_decay_parameters() <= {key for key, _ in objective.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_copies_compute_the_same_and_share_nothing(name: str) -> None:
    objective = build(name)
    twin = copy.deepcopy(objective)
    expected = run(objective)[0]
    for parameter in objective.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(run(twin)[0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_state_comes_back_from_its_state_dict(name: str) -> None:
    changes = SMALL[name].with_state
    objective = build(name, **changes)
    for step in range(3):
        run(objective, step=step)
    other = build(name, **changes)
    other.load_state_dict(objective.state_dict())
    torch.testing.assert_close(run(other, step=3)[0], run(objective, step=3)[0])


@pytest.mark.parametrize("name", names_with("compares_views"))
def test_one_view_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"objective {name} compares views: views.groups must give at least 2 crops"):
        config(name).build(shape(1, global_views=1), None)


@pytest.mark.parametrize("name", names_with("compares_images"))
def test_one_image_is_refused_where_images_are_compared(name: str) -> None:
    with pytest.raises(ValueError, match=f"objective {name} compares different images.*global_batch_size"):
        config(name).build(shape(2, images=1), None)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param(name, changes, id=f"{name}-{key}={value}")
        for name, small in SMALL.items()
        for changes in small.out_of_range
        for key, value in changes.items()
    ],
)
def test_settings_out_of_range_are_refused(name: str, changes: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        config(name, **changes)


def test_diet_takes_one_view_and_needs_to_know_how_many_images_there_are() -> None:
    objective = config("diet").build(shape(1, global_views=1), None).double()
    assert forward(objective, features(1)).loss.isfinite()
    nowhere = dataclasses.replace(shape(1, global_views=1), num_images=None)
    with pytest.raises(ValueError, match="objective diet has a class for each training image, and how many"):
        config("diet").build(nowhere, None)


def test_half_a_ramp_is_refused() -> None:
    halves = {
        "invariance_weight_start": 2.3, "invariance_ramp_steps": 100, "teacher_temperature_start": 1.5,
        "teacher_temperature_ramp_steps": 100,
    }  # fmt: skip
    for key, value in halves.items():
        with pytest.raises(ValidationError, match=rf"{key} \({value}\).*set both or neither"):
            config("dissl", **{key: value})


def test_a_queue_that_batches_do_not_fill_evenly_is_refused_with_a_length_that_works() -> None:
    with pytest.raises(ValueError, match=r"queue_length \(12\) must be a multiple of the 5 images .* such as 10"):
        config("swav", queue_length=12).build(shape(2), None)


def test_weak_maximality_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config("dissl", entropy_weight=1.8, invariance_weight=0.8).build(shape(2), None)
    assert not caplog.records
    config("dissl", entropy_weight=1.7, invariance_weight=0.8).build(shape(2), None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "objective.entropy_weight (1.7) is below objective.invariance_weight + 1 (1.8)" in caplog.text


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("name", names_with("has_collapse_loss"))
def test_a_collapsed_representation_has_the_collapse_loss(name: str, views: int) -> None:
    objective = build(name, views).eval()  # in eval mode, so that batch-norm does not blow up a constant's rounding
    if (weight := SMALL[name].rows_equal_in_collapse) is not None:
        rows = objective.get_parameter(weight)
        rows.data = rows.data[:1].expand(len(rows), -1)
    z = features(views)[:1, :1].expand(views, 5, -1)
    teacher = torch.zeros_like(objective.projector(z[:2])) if objective.uses_ema_teacher else None
    assert objective.collapse_loss is not None
    assert forward(objective, z, teacher).loss.item() == pytest.approx(objective.collapse_loss, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_collapse_advice_names_keys_of_the_recipe(name: str) -> None:
    objective = build(name)
    assert (objective.collapse_loss is None) == (objective.collapse_advice == "")
    assert (objective.collapse_loss is not None) == SMALL[name].has_collapse_loss
    keys = [word.strip(",:") for word in objective.collapse_advice.split() if word.startswith("objective.")]
    assert all(key.removeprefix("objective.") in config(name).model_dump() for key in keys)


@pytest.mark.parametrize("name", NAMES)
def test_what_diagnostics_read_of_assignments_is_logged(name: str) -> None:
    objective = build(name)
    of = objective.assignment_metrics
    assert (of is not None) == SMALL[name].assigns_classes
    if of is not None:
        metrics = run(objective)[1]
        assert 1 <= metrics[of.perplexity].item() <= of.num_classes + 1e-6
        assert 1 <= metrics[of.used].item() <= of.num_classes


def test_mutual_information_bound_counts_the_rows() -> None:
    loss, metrics = run(build("cissl"))
    assert metrics["mutual_information_bound"].item() == pytest.approx(math.log(10) - loss.item())
    assert metrics["negatives"] == 8
    loss, metrics = run(build("simclr"))
    assert metrics["mutual_information_bound"].item() == pytest.approx(math.log(9) - loss.item())
    assert metrics["negatives"] == 8


@pytest.mark.parametrize("name", ["simclr", "cissl"])
def test_mean_cosines_are_means_over_anchors_and_over_negatives(name: str) -> None:
    objective, z = build(name, 3), features(3)
    a = objective.head(z) if name == "simclr" else objective.student_head(z)
    b = a[:2] if name == "simclr" else objective.teacher_head(z[:2])
    positive, negative = [], []
    for v in range(3):
        for x in range(5):
            own = []
            for g in range(2):
                for y in range(5):
                    if name == "simclr" and (v, x) == (g, y):
                        continue
                    pair = torch.cosine_similarity(a[v, x], b[g, y], dim=0).item()
                    (own if x == y else negative).append(pair)
            positive.append(sum(own) / len(own))
    metrics = objective(z, None, progress()).metrics
    assert metrics["positive_cosine"].item() == pytest.approx(sum(positive) / len(positive), abs=1e-9)
    assert metrics["negative_cosine"].item() == pytest.approx(sum(negative) / len(negative), abs=1e-9)


def test_a_single_global_view_is_enough() -> None:
    for name in NAMES:
        one = shape(3, global_views=1)
        objective = config(name).build(one, None).double()
        z = features(3)
        teacher = teacher_output(objective, z)
        loss = forward(objective, z, None if teacher is None else teacher[:1]).loss
        assert loss.isfinite(), name


def test_configs_are_frozen() -> None:
    settings: Config = config("simclr")
    with pytest.raises(ValidationError):
        settings.temperature = 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_config_and_objective_agree_on_a_teacher(name: str) -> None:
    assert config(name).uses_ema_teacher == build(name).uses_ema_teacher
