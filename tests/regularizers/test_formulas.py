"""Each regulariser, and its gradient, against the formula in plain loops, in fp64; and what it does where rows meet."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import issl_engine.regularizers as regularizers
from issl_engine.objectives.base import ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.regularizers.base import Regularizer, RegularizerConfig
from issl_engine.regularizers.penalties import Penalties
from issl_engine.variants import variants

SETTINGS: dict[str, dict[str, Any]] = {"koleo": {}, "ldreg": {"num_neighbours": 4}}


def shape(images: int = 7) -> ObjectiveShape:
    return ObjectiveShape(feature_dim=5, num_views=2, num_global_views=2, batch_size=images)


def config(name: str, **changes: Any) -> RegularizerConfig:
    settings = {"name": name} | SETTINGS[name] | changes
    return variants(regularizers, RegularizerConfig)[name].model_validate(settings)


def build(name: str, images: int = 7) -> Regularizer:
    return config(name).build(shape(images))


def rows(images: int = 7, *, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(2, images, 5, generator=generator, dtype=torch.float64)


def koleo(z: Tensor) -> Tensor:
    total = torch.zeros((), dtype=z.dtype)
    for view in z:
        unit = [row / row.norm() for row in view]
        for n, row in enumerate(unit):
            total -= min((row - other).norm() for m, other in enumerate(unit) if m != n).log() / len(unit)
    return total


def ldreg(z: Tensor) -> Tensor:
    points = list(z.flatten(0, 1))
    total = torch.zeros((), dtype=z.dtype)
    for r, row in enumerate(points):
        distances = sorted((row - other.detach()).norm() for s, other in enumerate(points) if s != r)[:4]
        mean = (distances[0] + distances[1] + distances[2]) / 3
        total -= (mean / (distances[3] - mean)).log() / len(points)
    return total


FORMULAS = {"koleo": koleo, "ldreg": ldreg}


def test_every_regulariser_has_a_formula_here_and_a_help_text() -> None:
    found = variants(regularizers, RegularizerConfig)
    assert set(found) == set(FORMULAS) == set(SETTINGS)
    assert all(field.description for cls in found.values() for field in cls.model_fields.values())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("images", [5, 7])
@pytest.mark.parametrize("name", FORMULAS)
def test_penalty_and_gradient_equal_the_formula(name: str, images: int, scale: float) -> None:
    found = []
    for compute in (FORMULAS[name], build(name, images)):
        z = rows(images, scale=scale).requires_grad_()
        penalty = compute(z)
        found.append((penalty, torch.autograd.grad(penalty, z)[0]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", FORMULAS)
def test_it_does_not_depend_on_the_scale_of_the_representations(name: str) -> None:
    small, large = (build(name)(rows(scale=scale)) for scale in (0.1, 10.0))
    torch.testing.assert_close(small, large)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FORMULAS)
def test_equal_rows_have_a_finite_penalty_and_gradient(name: str, dtype: torch.dtype) -> None:
    some_equal = rows().to(dtype)
    some_equal[:, :5] = some_equal[0, 0]
    for z in (some_equal, torch.ones(2, 7, 5, dtype=dtype), torch.zeros(2, 7, 5, dtype=dtype)):
        leaf = z.clone().requires_grad_()
        penalty = build(name)(leaf)
        penalty.backward()
        assert penalty.isfinite()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", FORMULAS)
def test_descending_spreads_the_rows(name: str) -> None:
    """KoLeo drives neighbours apart, LDReg raises the dimensionality: rows near a line leave it."""
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(2, 32, 1, generator=generator) * torch.ones(5)
    z = (line + 0.05 * torch.randn(2, 32, 5, generator=generator)).requires_grad_()
    before = torch.linalg.svdvals(z.detach().flatten(0, 1))
    regularizer = config(name, **({"num_neighbours": 16} if name == "ldreg" else {})).build(shape(32))
    optimizer = torch.optim.Adam([z], lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        regularizer(z).backward()
        optimizer.step()
    after = torch.linalg.svdvals(z.detach().flatten(0, 1))
    assert after[1] / after[0] > 2 * before[1] / before[0]


def test_penalties_are_weighted_logged_and_wait_for_their_epoch() -> None:
    z = rows().requires_grad_()
    penalties = Penalties([config("koleo", weight=0.3), config("ldreg", weight=0.2, start_epochs=2)], shape(), None)
    output = ObjectiveOutput(torch.tensor(1.5, dtype=torch.float64), {"metric": torch.tensor(1.0)})
    for step, late in ((19, 0.0), (20, 0.2)):
        loss, metrics = penalties(z, output, Progress(step=step, steps_per_epoch=10, total_steps=100))
        torch.testing.assert_close(loss, 1.5 + 0.3 * koleo(z) + late * ldreg(z))
        assert set(metrics) == {"metric", "objective_loss", "regularizer.koleo", "regularizer.ldreg"}
        assert metrics["regularizer.ldreg"].item() == pytest.approx(ldreg(z).item())
        assert metrics["objective_loss"] == 1.5
        assert not any(value.requires_grad for value in metrics.values())


def test_bf16_autocast_keeps_the_penalty_in_float32() -> None:
    penalties = Penalties([config("koleo"), config("ldreg")], shape(), None)
    output = ObjectiveOutput(torch.tensor(0.0), {})
    z = rows().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, metrics = penalties(z, output, Progress(step=0, steps_per_epoch=10, total_steps=100))
    assert loss.dtype == torch.float32
    assert metrics["regularizer.koleo"].item() == pytest.approx(koleo(z.detach().double()).item(), rel=1e-4)


def test_too_few_images_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"regularizer koleo compares different images.*global_batch_size larger"):
        build("koleo", 1)
    with pytest.raises(ValueError, match=r"ldreg looks at num_neighbours \(4\).*holds 4 rows.*lower num_neighbours"):
        build("ldreg", 2)
    assert math.isfinite(build("ldreg", 3)(rows(3)).item())
