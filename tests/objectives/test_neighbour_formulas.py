"""The neighbouring methods' losses and gradients against their papers' formulas, written anew in fp64."""

import math

import pytest
import torch
from torch import Tensor

from issl_engine.objectives.base import Objective
from issl_engine.objectives.spectra import NUCLEAR_NORM_EPSILON

from .conftest import NUM_IMAGES, build, features, forward, image_ids
from .test_formulas import Formula, check, cross_entropy, mean, unit


def smooth_nuclear_norm(x: Tensor) -> Tensor:
    """From the eigenvalues of XᵀX or XXᵀ, whichever is smaller."""
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    epsilon = NUCLEAR_NORM_EPSILON
    shifted = torch.linalg.eigvalsh(gram + epsilon**2 * torch.eye(len(gram), dtype=x.dtype))
    return (shifted.sqrt() - epsilon).sum()


def mmcr(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    p = unit(objective.head(z))
    own = torch.stack([smooth_nuclear_norm(p[:, image]) for image in range(p.shape[1])])
    return 0.3 * own.mean() - smooth_nuclear_norm(p.mean(0))


def aninfonce(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    """Equation 3 with every pair's distance written out."""
    a = unit(objective.head(z))
    weights = (1 + objective.raw_weights.exp()).log()
    losses = []
    for v in range(len(a)):
        for x in range(a.shape[1]):
            rows = [(g, y) for g in range(2) for y in range(a.shape[1]) if (g, y) != (v, x)]
            logits = torch.stack([-((a[v, x] - a[g, y]) ** 2 * weights).sum() / 2 for g, y in rows])
            positives = [logit for logit, (_, y) in zip(logits, rows, strict=True) if y == x]
            losses.append(logits.exp().sum().log() - mean(positives))
    return mean(losses)


def diet(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    targets = 0.6 / NUM_IMAGES + 0.4 * torch.eye(NUM_IMAGES, dtype=z.dtype)[image_ids(z.shape[1])]
    logits = z @ objective.weight.T
    return mean([cross_entropy(targets[x], view[x]) for view in logits for x in range(z.shape[1])])


FORMULAS: dict[str, tuple[Formula, dict]] = {
    "mmcr": (mmcr, {"compression_weight": 0.3}),
    "aninfonce": (aninfonce, {}),
    "diet": (diet, {}),
}


@pytest.mark.parametrize("images", [5, 7])
@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_gradients_equal_the_formula(name: str, views: int, images: int) -> None:
    formula, changes = FORMULAS[name]
    check(build(name, views, images=images, **changes), formula, features(views, images=images))


@pytest.mark.parametrize("name", FORMULAS)
def test_peaked_representations_change_nothing(name: str) -> None:
    """Representations a thousand times as large, with batch-norm's statistics left as they are."""
    formula, changes = FORMULAS[name]
    check(build(name, 3, **changes).eval(), formula, 1000 * features(3))


@pytest.mark.parametrize("name", FORMULAS)
def test_float32_stays_close_to_float64(name: str) -> None:
    _, changes = FORMULAS[name]
    objective, z = build(name, 4, **changes), features(4)
    expected = forward(objective, z).loss
    actual = forward(build(name, 4, **changes).float(), z.float()).loss
    assert actual.dtype == torch.float32
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("views", [2, 4])
def test_aninfonce_starts_as_simclr_and_leaves_it_where_weights_differ(views: int) -> None:
    objective, z = build("aninfonce", views), features(views)
    isotropic = build("simclr", views, temperature=0.3)
    isotropic.head.load_state_dict(objective.head.state_dict())
    expected = forward(isotropic, z).loss
    torch.testing.assert_close(forward(objective, z).loss, expected)
    with torch.no_grad():
        objective.raw_weights += torch.arange(4)
    check(objective, aninfonce, z)
    assert (forward(objective, z).loss - expected).abs() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.8])
def test_diets_kl_is_its_loss_above_the_least_there_can_be(smoothing: float) -> None:
    """The optimum is reached by logits that are the logarithm of the target; uniform ones give ln N."""
    objective = build("diet", label_smoothing=smoothing)
    with torch.no_grad():
        objective.weight.zero_()
    output = forward(objective, features())
    assert output.loss.item() == pytest.approx(objective.collapse_loss)
    target = smoothing / NUM_IMAGES + (1 - smoothing) * torch.eye(NUM_IMAGES)[0]
    entropy = torch.special.entr(target).sum().item()
    assert output.metrics["target_kl"].item() == pytest.approx(math.log(NUM_IMAGES) - entropy, abs=1e-6)
