"""The neighbouring methods' losses and gradients against their papers' formulas, written anew in fp64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from issl_engine.objectives.base import Objective
from issl_engine.objectives.spectra import NUCLEAR_NORM_EPSILON
from issl_engine.objectives.ssl_hsic import EPSILON

from .conftest import NUM_IMAGES, build, features, forward, image_ids, progress, teacher_output
from .test_formulas import Formula, check, cross_entropy, mean, pairs, unit


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
    """With every pair's distance written out."""
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


def falcon(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    """As the authors' program has it, for two views; every pair of a global view and another, for more."""
    images = z.shape[1]
    temperature = 8 / (math.sqrt(images) * math.log((1 - 1e-3 * 8) / 1e-3))
    logits = torch.tanh(objective.head(z)) @ objective.codes.double() / temperature
    p = logits.softmax(-1)
    invariance = mean([cross_entropy(p[i, x], logits[j, x]) for i, j in pairs(z) for x in range(images)])
    marginals = [mean([p[i, x] for x in range(images)]) for i in range(2)]
    prior = mean([(m * (9 * m).log()).sum() for m in marginals])
    return 0.4 * invariance + prior


def sem(objective: Objective, z: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    logits = objective.projector.embedder(z) / 0.5
    groups = [logits[..., 4 * k : 4 * k + 4] for k in range(3)]
    exponentials = [(group - group.amax(-1, keepdim=True)).exp() for group in groups]
    embedded = torch.cat([e / e.sum(-1, keepdim=True) for e in exponentials], -1)
    predicted = objective.predictor(objective.projector.mlp(embedded))
    images = range(z.shape[1])
    return mean([2 - 2 * unit(predicted[j, x]) @ unit(teacher[i, x]) for i, j in pairs(z) for x in images])


def logarithm(a: Tensor) -> Tensor:
    """By an integral over resolvents, ln A = ∫_0^1 (A − I) (t (A − I) + I)⁻¹ dt, with Gauss and Legendre's points."""
    points, weights = np.polynomial.legendre.leggauss(40)
    one = torch.eye(len(a), dtype=a.dtype)
    shifted = a - one
    terms = [w / 2 * torch.linalg.solve((p + 1) / 2 * shifted + one, shifted) for p, w in zip(points, weights)]
    return sum(terms, torch.zeros_like(a))


def matrix_ssl(objective: Objective, z: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    students, teachers = unit(objective.predictor(objective.projector(z))), unit(teacher)
    images, shift = z.shape[1], 0.5 * torch.eye(4, dtype=z.dtype)

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        return (
            sum((torch.outer(x - a.mean(0), y - b.mean(0)) for x, y in zip(a, b, strict=True)), 0 * shift) / images
            + shift
        )

    losses = []
    for i, j in pairs(z):
        cross = covariance(teachers[i], students[j])
        own = covariance(teachers[i], teachers[i]) @ logarithm(covariance(students[j], students[j]))
        losses.append(-0.3 * logarithm((cross + cross.T) / 2).trace() - 0.7 * own.trace())
    return mean(losses)


def ssl_hsic(objective: Objective, z: Tensor, teacher: Tensor | None) -> Tensor:
    """HSIC(Z, Y) and HSIC(Z, Z) by traces of centred kernel matrices, tr(KHLH), up to the estimators' factors."""
    assert teacher is not None
    rows = torch.cat((unit(objective.predictor(objective.projector(z))), unit(teacher)))
    of_image = [(x, row) for x in range(z.shape[1]) for row in rows[:, x]]
    kernel = torch.stack(
        [torch.stack([0.7 / (0.49 + (a - b).square().sum()).sqrt() for _, b in of_image]) for _, a in of_image]
    )
    size = len(of_image)
    same = [kernel[a, b] for a in range(size) for b in range(size) if a != b and of_image[a][0] == of_image[b][0]]
    centring = torch.eye(size, dtype=z.dtype) - 1 / size
    itself = (kernel @ centring @ kernel @ centring).trace() / size**2
    root = (itself + EPSILON**2).sqrt() - EPSILON
    return 3 * root - (mean(same) - kernel.sum() / size**2)


FORMULAS: dict[str, tuple[Formula, dict]] = {
    "mmcr": (mmcr, {"compression_weight": 0.3}),
    "aninfonce": (aninfonce, {}),
    "diet": (diet, {}),
    "sem": (sem, {}),
    "ssl_hsic": (ssl_hsic, {}),
    "matrix_ssl": (matrix_ssl, {"uniformity_weight": 0.3, "alignment_weight": 0.7}),
    "falcon": (falcon, {"invariance_weight": 0.4}),
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
    teacher = teacher_output(objective, z)
    expected = forward(objective, z, teacher).loss
    single = build(name, 4, **changes).float()
    actual = forward(single, z.float(), None if teacher is None else teacher.float()).loss
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


def test_falcons_codes_are_signs_that_follow_the_seed_and_never_move() -> None:
    objective, twin = build("falcon"), build("falcon")
    assert objective.codes.equal(twin.codes)
    assert set(objective.codes.unique().tolist()) == {-1, 1}
    before = objective.codes.clone()
    forward(objective, features()).loss.backward()
    objective.after_step(progress(1))
    assert objective.codes.equal(before)
    assert "codes" in objective.state_dict()


def test_sems_simplices_sum_to_one_and_its_teacher_has_them_too() -> None:
    objective, z = build("sem"), features()
    simplices = objective.projector.simplices(z)
    assert simplices.shape == (2, 5, 3, 4)
    torch.testing.assert_close(simplices.sum(-1), torch.ones(2, 5, 3, dtype=torch.float64))
    torch.testing.assert_close(objective.projector(z), objective.projector.mlp(simplices.flatten(-2)))
    metrics = forward(objective, z, teacher_output(objective, z)).metrics
    expected = -(simplices * simplices.log()).sum(-1).mean()
    assert metrics["simplex_entropy"].item() == pytest.approx(expected.item())


def test_ssl_hsic_is_0_for_equal_rows_and_its_gradient_finite() -> None:
    objective = build("ssl_hsic").eval()
    z = features()[:1, :1].expand(2, 5, -1).clone().requires_grad_()
    with torch.no_grad():
        teacher = objective.predictor(objective.projector(z))
    loss = forward(objective, z, teacher).loss
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
