"""Each loss, and its gradients to representations and heads, against the formula in plain loops, in fp64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from issl_engine.objectives.base import Objective

from .conftest import build, config, features, forward, progress, shape, teacher_output

Formula = Callable[[Objective, Tensor, Tensor | None], Tensor]


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


def cross_entropy(p: Tensor, logits: Tensor) -> Tensor:
    return -(p * (logits - logits.logsumexp(0))).sum()


def mean(terms: list[Tensor]) -> Tensor:
    return sum(terms, torch.zeros((), dtype=torch.float64)) / len(terms)


def pairs(z: Tensor) -> list[tuple[int, int]]:
    """(global view i, other view j), both orders."""
    return [(i, j) for i in range(2) for j in range(len(z)) if i != j]


def simclr(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    a = unit(objective.head(z)) / math.sqrt(0.3)
    losses = []
    for v in range(len(a)):
        for x in range(a.shape[1]):
            rows = [(g, y) for g in range(2) for y in range(a.shape[1]) if (g, y) != (v, x)]
            logits = torch.stack([a[v, x] @ a[g, y] for g, y in rows])
            positives = [logit for logit, (_, y) in zip(logits, rows, strict=True) if y == x]
            losses.append(logits.exp().sum().log() - mean(positives))
    return mean(losses)


def cissl(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    a, b = unit(objective.student_head(z)), unit(objective.teacher_head(z[:2]))
    losses = []
    for v in range(len(a)):
        for x in range(a.shape[1]):
            logits = torch.stack([a[v, x] @ b[g, y] / 0.2 for g in range(2) for y in range(a.shape[1])])
            positives = [a[v, x] @ b[g, x] / 0.2 for g in range(2)]
            losses.append(logits.exp().sum().log() - positives[0] / 2 - positives[1] / 2)
    return mean(losses)


def assign(scores: Tensor) -> Tensor:
    """Sinkhorn-Knopp on the matrix itself, three iterations, epsilon 0.05."""
    q = (scores / 0.05).exp()
    for _ in range(3):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


def swav(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    scores = unit(objective.head(z)) @ objective.prototypes.T
    earlier = [torch.zeros(0, 4, dtype=torch.float64)] * 2 if objective.queue is None else list(objective.queue)
    together = [torch.cat((earlier[i] @ objective.prototypes.T, scores[i])).detach() for i in range(2)]
    q = [assign(rows)[len(earlier[0]) :] for rows in together]
    images = range(z.shape[1])
    return mean([cross_entropy(q[i][x], scores[j, x] / 0.1) for i, j in pairs(z) for x in images])


def dino(objective: Objective, z: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    head = objective.projector
    student = unit(head.mlp(z)) @ unit(head.last_layer).T
    t = ((teacher - objective.centre) / 0.04).softmax(-1)
    images = range(z.shape[1])
    return mean([cross_entropy(t[i, x], student[j, x] / 0.1) for i, j in pairs(z) for x in images])


def dissl(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    teacher, student = objective.teacher_head(z[:2]) / 0.5, objective.student_head(z)
    t = teacher.softmax(-1)
    images = range(z.shape[1])
    distilled = mean([cross_entropy(t[i, x], student[j, x]) for i, j in pairs(z) for x in images])
    marginals = [mean([t[i, x] for x in images]) for i in range(2)]
    entropy = mean([-(m * m.log()).sum() for m in marginals])
    invariant = mean([cross_entropy(t[i, x], teacher[1 - i, x]) for i in range(2) for x in images])
    return distilled - 2.3 * entropy + 0.8 * invariant


def unordered(z: Tensor) -> list[tuple[int, int]]:
    return [(i, j) for i, j in pairs(z) if i < j]


def barlow_twins(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    p = objective.head(z)
    p = (p - p.mean(1, keepdim=True)) / (p.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    losses = []
    for i, j in unordered(z):
        for k in range(p.shape[-1]):
            for m in range(p.shape[-1]):
                c = (p[i, :, k] * p[j, :, m]).mean()
                losses.append((1 - c) ** 2 if k == m else 0.3 * c**2)
    return sum(losses, torch.zeros(())) / len(unordered(z))


def vicreg(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    p = objective.head(z)
    invariance = mean([((p[i] - p[j]) ** 2).mean() for i, j in unordered(z)])
    variances, covariances = [], []
    for view in p:
        c = torch.cov(view.T)
        variances.append((1 - (c.diagonal() + 1e-4).sqrt()).clamp(min=0).mean())
        covariances.append((c - c.diagonal().diag()).pow(2).sum() / p.shape[-1])
    return 25 * invariance + 25 * mean(variances) + 2 * mean(covariances)


def byol(objective: Objective, z: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    predicted = objective.predictor(objective.projector(z))
    terms = [
        2 - 2 * torch.cosine_similarity(predicted[j, x], teacher[i, x], dim=0)
        for i, j in pairs(z)
        for x in range(z.shape[1])
    ]
    return mean(terms)


def simsiam(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
    p = objective.head(z)
    predicted = objective.predictor(p)
    terms = [
        -torch.cosine_similarity(predicted[j, x], p[i, x].detach(), dim=0)
        for i, j in pairs(z)
        for x in range(z.shape[1])
    ]
    return mean(terms)


FORMULAS: dict[str, Formula] = {
    formula.__name__: formula for formula in (simclr, cissl, swav, dino, dissl, barlow_twins, vicreg, byol, simsiam)
}


def check(objective: Objective, formula: Formula, z: Tensor, step: int = 0) -> None:
    """Value, gradient to z and gradient to every weight."""
    teacher = teacher_output(objective, z)
    results = []
    for compute in (
        lambda z: formula(objective, z, teacher),
        lambda z: forward(objective, z, teacher, progress(step)).loss,
    ):
        leaf = z.clone().requires_grad_()
        loss = compute(leaf)
        gradients = torch.autograd.grad(loss, [leaf, *objective.parameters()])
        results.append((loss, *gradients))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_gradients_equal_the_formula(name: str, views: int) -> None:
    check(build(name, views), FORMULAS[name], features(views))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_cissl_without_its_own_row_equals_the_formula(head: str) -> None:
    def formula(objective: Objective, z: Tensor, _: Tensor | None) -> Tensor:
        a, b = unit(objective.student_head(z)), unit(objective.teacher_head(z[:2]))
        losses = []
        for v in range(len(a)):
            for x in range(a.shape[1]):
                rows = [(g, y) for g in range(2) for y in range(a.shape[1]) if (g, y) != (v, x)]
                logits = torch.stack([a[v, x] @ b[g, y] / 0.2 for g, y in rows])
                positives = [logit for logit, (_, y) in zip(logits, rows, strict=True) if y == x]
                losses.append(logits.exp().sum().log() - mean(positives))
        return mean(losses)

    check(build("cissl", 4, keep_own_row=False, student_head=head), formula, features(4))


def test_swav_with_a_queue_equals_the_formula() -> None:
    objective = build("swav", 4, queue_length=10, queue_start_epochs=0)
    objective.queue.copy_(unit(torch.randn(2, 10, 4, dtype=torch.float64)))
    z = features(4)
    with_queue = swav(objective, z, None)
    assert abs(with_queue - swav(build("swav", 4), z, None)) > 1e-3, "the queue changes nothing here"
    torch.testing.assert_close(objective(z, None, progress(5)).loss, with_queue)


def test_dino_with_a_centre_equals_the_formula() -> None:
    objective = build("dino", 4)
    objective.centre.copy_(0.1 * torch.randn(9, dtype=torch.float64))
    z = features(4)
    expected = dino(objective, z, teacher_output(objective, z))
    assert abs(expected - dino(build("dino", 4), z, teacher_output(objective, z))) > 1e-3
    torch.testing.assert_close(objective(z, teacher_output(objective, z), progress()).loss, expected)


@pytest.mark.parametrize("name", FORMULAS)
def test_float32_stays_close_to_float64(name: str) -> None:
    objective, z = build(name, 4), features(4)
    teacher = teacher_output(objective, z)
    expected = objective(z, teacher, progress()).loss
    single = config(name).build(shape(4), None)
    single.load_state_dict(build(name, 4).float().state_dict())
    actual = single(z.float(), None if teacher is None else teacher.float(), progress()).loss
    assert actual.dtype == torch.float32
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("swav", {}),
        ("swav", {"freeze_prototypes_steps": 5}),
        ("dino", {}),
        ("dino", {"freeze_last_layer_epochs": 1.0}),
        ("dissl", {}),
        ("dissl", {"teacher_head": "block_bottleneck", "student_head": "mlp"}),
        ("dissl", {"teacher_head": "bottleneck_block", "student_head": "block_bottleneck", "hidden_layers": 2}),
    ],
)
def test_logits_made_in_blocks_change_nothing(name: str, changes: dict[str, Any]) -> None:
    found = []
    for in_blocks in (False, True):
        objective = build(name, 4, logits_in_blocks=in_blocks, **changes)
        z = features(4).requires_grad_()
        output = objective(z, teacher_output(objective, z), progress())
        output.loss.backward()
        gradients = {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}
        found.append((output, z.grad, gradients))
    (whole, d_whole, weights_whole), (blocks, d_blocks, weights_blocks) = found
    assert torch.allclose(blocks.loss, whole.loss, rtol=1e-10)
    assert torch.allclose(d_blocks, d_whole, rtol=1e-8, atol=1e-12)
    assert weights_blocks.keys() == weights_whole.keys()
    for key, gradient in weights_whole.items():
        assert torch.allclose(weights_blocks[key], gradient, rtol=1e-8, atol=1e-12), key
    assert blocks.metrics.keys() == whole.metrics.keys()
    assert all(torch.allclose(blocks.metrics[key], value) for key, value in whole.metrics.items())
