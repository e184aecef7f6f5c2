"""What changes from step to step: queue, prototypes, centre, temperatures, weights, momentum."""

import math

import pytest
import torch
from torch import Tensor

from issl_engine.objectives.base import Objective, ObjectiveShape
from issl_engine.objectives.dino import DINOConfig

from .conftest import build, features, forward, progress, teacher_output
from .small_objectives import SMALL


def normalised_projections(objective: Objective, z: Tensor) -> Tensor:
    with torch.no_grad():
        p = objective.head(z)
    return p / p.norm(dim=-1, keepdim=True)


def test_queue_holds_the_newest_global_projections_in_order() -> None:
    objective = build("swav", 3, queue_length=10)
    batches = [features(3, seed=seed) for seed in range(4)]
    for step, z in enumerate(batches):
        objective(z, None, progress(step))
    expected = torch.cat([normalised_projections(objective, z)[:2] for z in batches[-2:]], dim=1)
    torch.testing.assert_close(objective.queue, expected)


@pytest.mark.parametrize(("start_epochs", "first_used"), [(0.0, 2), (0.3, 3)])
def test_queue_is_used_once_it_is_full_and_its_epoch_has_come(start_epochs: float, first_used: int) -> None:
    objective = build("swav", queue_length=10, queue_start_epochs=start_epochs)
    plain = build("swav")
    used = []
    for step in range(5):
        z = features(seed=step)
        with_queue, without = (o(z, None, progress(step)).loss.item() for o in (objective, plain))
        used.append(not math.isclose(with_queue, without, rel_tol=1e-9))
    assert used.index(True) == first_used
    assert all(used[first_used:])


def test_no_queue_leaves_no_buffer() -> None:
    assert "queue" not in build("swav").state_dict()


def test_prototypes_get_no_gradient_while_frozen() -> None:
    objective = build("swav", freeze_prototypes_steps=3)
    for step in range(5):
        objective.zero_grad()
        objective(features(), None, progress(step)).loss.backward()
        assert (objective.prototypes.grad is None) == (step < 3)
        assert all(weight.grad is not None for weight in objective.head.parameters())


def test_prototypes_start_on_the_sphere_and_return_to_it_after_a_step() -> None:
    objective = build("swav")
    ones = torch.ones(8, dtype=torch.float64)
    torch.testing.assert_close(objective.prototypes.detach().norm(dim=1), ones, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        objective.prototypes.mul_(torch.linspace(0.5, 3, 8, dtype=torch.float64)[:, None])
    directions = objective.prototypes.detach().clone()
    objective.after_step(progress(1))
    torch.testing.assert_close(objective.prototypes.detach().norm(dim=1), ones)
    torch.testing.assert_close(
        torch.cosine_similarity(objective.prototypes.detach(), directions), torch.ones_like(ones)
    )


def test_assignment_metrics_say_how_prototypes_are_used() -> None:
    objective = build("swav", images=8, epsilon=0.01, sinkhorn_iterations=100)
    # Sinkhorn-Knopp gives every prototype its share, so their mean assignment is near uniform.
    metrics = objective(features(images=8), None, progress()).metrics
    assert metrics["assignment_perplexity"].item() == pytest.approx(8, rel=0.05)
    assert metrics["prototypes_used"].item() >= 6
    assert 0 <= metrics["assignment_entropy"].item() < math.log(8)


def test_centre_follows_the_mean_of_the_teachers_outputs_after_use() -> None:
    objective = build("dino", centre_momentum=0.75)
    expected = torch.zeros(9, dtype=torch.float64)
    for step in range(3):
        z = features(seed=step)
        teacher = teacher_output(objective, z)
        assert teacher is not None
        objective(z, teacher, progress(step))
        expected = 0.75 * expected + 0.25 * teacher.mean((0, 1))
        torch.testing.assert_close(objective.centre, expected)


def test_last_layer_gets_no_gradient_while_frozen() -> None:
    objective = build("dino", freeze_last_layer_epochs=0.2)  # two of ten steps per epoch
    for step in range(4):
        objective.zero_grad()
        z = features()
        objective(z, teacher_output(objective, z), progress(step)).loss.backward()
        assert (objective.projector.last_layer.grad is None) == (step < 2)
        assert objective.projector.mlp.layers[0].weight.grad is not None


def test_last_layers_rows_start_as_those_of_a_linear_layer() -> None:
    objective = build("dino", bottleneck_dim=256, num_prototypes=1000)
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 1000, bias=False, dtype=torch.float64).weight.detach()
    own = objective.projector.last_layer.detach()
    assert own.norm(dim=1).mean().item() == pytest.approx(linear.norm(dim=1).mean().item(), rel=0.005)
    assert own.norm(dim=1).mean().item() == pytest.approx(1 / math.sqrt(3), rel=0.005)
    assert own.abs().max().item() <= 1 / 16
    assert own.square().mean().item() == pytest.approx(linear.square().mean().item(), rel=0.01)


def test_published_sizes_of_dinos_heads() -> None:
    shape = ObjectiveShape(feature_dim=2048, num_views=2, num_global_views=2, batch_size=8)
    tiny = DINOConfig(num_prototypes=1000, hidden_dim=1024, hidden_layers=1, batch_norm=True)
    with torch.device("meta"):
        sizes = [
            [tuple(weight.shape) for weight in config.build(shape, None).projector.parameters() if weight.ndim == 2]
            for config in (DINOConfig(), tiny)
        ]
    # The last layer, a parameter of the head itself, comes first.
    assert sizes[0] == [(65536, 256), (2048, 2048), (2048, 2048), (256, 2048)]
    assert sizes[1] == [(1000, 256), (1024, 2048), (256, 1024)]


def test_teacher_temperature_warms_up_linearly() -> None:
    objective = build("dino", warmup_teacher_temperature_epochs=2.0)
    temperatures = [objective.teacher_temperature(progress(step)) for step in (0, 5, 10, 20, 99)]
    assert temperatures == pytest.approx([0.04, 0.0475, 0.055, 0.07, 0.07])
    z = features()
    metrics = objective(z, teacher_output(objective, z), progress(5)).metrics
    assert metrics["teacher_temperature"].item() == pytest.approx(0.0475)
    assert build("dino", warmup_teacher_temperature_epochs=0).teacher_temperature(progress(0)) == 0.07


@pytest.mark.parametrize(("name", "start"), [("dino", 0.996), ("byol", 0.99)])
def test_ema_momentum_rises_to_one_along_a_cosine(name: str, start: float) -> None:
    objective = build(name)
    momenta = [objective.ema_momentum(progress(step)) for step in (0, 25, 50, 100)]
    quarter = 1 - (1 - start) * (1 + math.cos(math.pi / 4)) / 2
    assert momenta == pytest.approx([start, quarter, (1 + start) / 2, 1.0], abs=1e-12)


def test_invariance_weight_ramps_linearly_and_enters_the_loss() -> None:
    settings = {"invariance_weight": 0.6, "invariance_weight_start": 2.3, "invariance_ramp_steps": 10}
    objective = build("dissl", **settings)
    weights = [objective.invariance_weight(progress(step)) for step in (0, 5, 10, 50)]
    assert weights == pytest.approx([2.3, 1.45, 0.6, 0.6])
    z = features()
    for step, weight in ((0, 2.3), (5, 1.45), (50, 0.6)):
        loss, metrics = objective(z, None, progress(step))
        expected = metrics["distillation_ce"] - 2.3 * metrics["marginal_entropy"] + weight * metrics["invariance_ce"]
        torch.testing.assert_close(loss, expected)
        assert metrics["invariance_weight"].item() == pytest.approx(weight)


@pytest.mark.parametrize("in_blocks", [False, True])
def test_dissl_teacher_temperature_ramps_linearly_and_enters_the_loss(in_blocks: bool) -> None:
    ramp = {"teacher_temperature": 0.5, "teacher_temperature_start": 1.5, "teacher_temperature_ramp_steps": 10}
    objective = build("dissl", logits_in_blocks=in_blocks, **ramp)
    for step, temperature in ((0, 1.5), (5, 1.0), (10, 0.5), (50, 0.5)):
        loss, metrics = objective(features(), None, progress(step))
        expected = build("dissl", teacher_temperature=temperature)(features(), None, progress()).loss
        torch.testing.assert_close(loss, expected)
        assert metrics["teacher_temperature"].item() == pytest.approx(temperature)


def test_projection_spread_distinguishes_a_sphere_from_a_point() -> None:
    objective = build("byol", images=512)
    z = features(images=512)
    spread = torch.randn(2, 512, 4, dtype=torch.float64)
    point = torch.ones(2, 512, 4, dtype=torch.float64)
    assert objective(z, spread, progress()).metrics["projection_std"].item() == pytest.approx(1, abs=0.02)
    assert objective(z, point, progress()).metrics["projection_std"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("name", "head"), [("simsiam", "head"), ("matrix_ssl", "projector")])
def test_projections_are_normalised_without_gain_and_bias(name: str, head: str) -> None:
    objective = build(name, images=64)
    module = getattr(objective, head)
    z = features(images=64)
    rows = module(z).flatten(0, 1)
    torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1], dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        rows.var(0, correction=0), torch.ones(rows.shape[1], dtype=torch.float64), atol=0.02, rtol=0
    )
    assert [weight for weight, _ in module.layers[-1].named_parameters()] == []


@pytest.mark.parametrize(("teacher", "student"), [("block_bottleneck", "mlp"), ("mlp", "bottleneck_block")])
def test_other_heads_train(teacher: str, student: str) -> None:
    objective = build("dissl", teacher_head=teacher, student_head=student, hidden_layers=2)
    objective(features(), None, progress()).loss.backward()
    assert all(weight.grad is not None for weight in objective.parameters())


def test_bf16_autocast_keeps_the_loss_in_float32() -> None:
    for name in SMALL:
        objective = build(name, 4).float()
        z = features(4).float().requires_grad_()
        with torch.no_grad():
            teacher = objective.projector(z[:2]) if objective.uses_ema_teacher else None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = forward(objective, z, teacher).loss
        loss.backward()
        assert loss.dtype == torch.float32, name
        assert z.grad is not None
        assert z.grad.isfinite().all(), name
