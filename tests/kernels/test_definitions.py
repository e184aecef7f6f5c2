"""Each reference against its formula, written out in loops and plain Python numbers."""

import math

import pytest
import torch
from torch import Tensor

from issl_kernels.cross_correlation.reference import cross_correlation_reference
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference


def rows(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    exponents = [math.exp(x - top) for x in logits]
    return [e / sum(exponents) for e in exponents]


def cross_entropy(p: list[float], q: list[float]) -> float:
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(
    ("V", "G", "keep_self"), [(2, 2, False), (2, 2, True), (4, 2, False), (4, 2, True), (3, 1, False)]
)
def test_info_nce_is_lse_minus_mean_positive(V: int, G: int, keep_self: bool) -> None:
    B, temperature = 3, 0.3
    anchors, targets = rows(V, B, 4), rows(G, B, 4, seed=1)
    losses = []
    for v in range(V):
        for i in range(B):
            logits, positives = [], []
            for g in range(G):
                for k in range(B):
                    if not keep_self and (g, k) == (v, i):
                        continue
                    logit = sum(float(a * b) for a, b in zip(anchors[v, i], targets[g, k], strict=True)) / temperature
                    logits.append(logit)
                    if k == i:
                        positives.append(logit)
            if positives:
                losses.append(math.log(sum(math.exp(x) for x in logits)) - sum(positives) / len(positives))
    expected = sum(losses) / len(losses)
    found = info_nce_reference(anchors, targets, temperature=temperature, keep_self=keep_self)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("skip", [True, False])
def test_soft_cross_entropy_is_the_mean_over_pairs(skip: bool) -> None:
    V, G, B, C = 4, 2, 3, 5
    student, targets = rows(V, B, C), rows(G, B, C, seed=1).softmax(-1)
    pairs = [
        cross_entropy(targets[i, b].tolist(), probabilities((student[j, b] / 0.2).tolist()))
        for i in range(G)
        for j in range(V)
        for b in range(B)
        if not (skip and i == j)
    ]
    found = soft_cross_entropy_reference(student, targets, temperature=0.2, skip_same_view=skip)
    assert float(found) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


@pytest.mark.parametrize(("V", "G"), [(2, 2), (5, 2), (3, 1)])
def test_distillation_is_the_sum_of_its_three_terms(V: int, G: int) -> None:
    B, C = 4, 6
    teacher, student = rows(G, B, C), rows(V, B, C, seed=1)
    t = [[probabilities((teacher[i, b] / 0.5).tolist()) for b in range(B)] for i in range(G)]
    s = [[probabilities((student[j, b] / 0.9).tolist()) for b in range(B)] for j in range(V)]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    distilled = mean([cross_entropy(t[i][b], s[j][b]) for i in range(G) for j in range(V) if i != j for b in range(B)])
    invariant = mean([cross_entropy(t[i][b], t[k][b]) for i in range(G) for k in range(G) if i != k for b in range(B)])
    marginals = [[mean([t[i][b][c] for b in range(B)]) for c in range(C)] for i in range(G)]
    entropy = mean([cross_entropy(m, m) for m in marginals])
    loss, terms = distillation_reference(
        teacher, student, teacher_temperature=0.5, student_temperature=0.9, entropy_weight=2.3, invariance_weight=0.7
    )
    assert float(loss) == pytest.approx(distilled - 2.3 * entropy + 0.7 * invariant, rel=1e-12)
    assert float(terms.distillation_ce) == pytest.approx(distilled, rel=1e-12)
    assert float(terms.marginal_entropy) == pytest.approx(entropy, rel=1e-12)
    assert float(terms.invariance_ce) == pytest.approx(invariant, rel=1e-12)
    conditional = mean([cross_entropy(t[i][b], t[i][b]) for i in range(G) for b in range(B)])
    assert float(terms.conditional_entropy) == pytest.approx(conditional, rel=1e-12)
    assert float(terms.perplexity) == pytest.approx(math.exp(entropy), rel=1e-12)
    used = {row.index(max(row)) for view in t for row in view}
    assert float(terms.classes_used) == len(used)


def test_sinkhorn_gives_every_prototype_and_every_image_its_share() -> None:
    assignments = sinkhorn_reference(rows(24, 5), epsilon=0.5, iterations=60)
    assert torch.allclose(assignments.sum(1), torch.ones(24, dtype=torch.float64))
    assert torch.allclose(assignments.sum(0), torch.full((5,), 24 / 5, dtype=torch.float64), rtol=1e-6)


def test_sinkhorn_scales_columns_then_rows() -> None:
    scores, epsilon = rows(6, 3), 0.4
    Q = [[math.exp(float(x) / epsilon) for x in row] for row in scores]
    for _ in range(3):
        columns = [sum(row[k] for row in Q) for k in range(3)]
        Q = [[row[k] / columns[k] / 3 for k in range(3)] for row in Q]
        Q = [[x / sum(row) / 6 for x in row] for row in Q]
    expected = torch.tensor(Q, dtype=torch.float64) * 6
    assert torch.allclose(sinkhorn_reference(scores, epsilon=epsilon, iterations=3), expected, rtol=1e-12)


def test_cross_correlation_pulls_the_diagonal_to_one_and_the_rest_to_zero() -> None:
    a, b = rows(7, 3), rows(7, 3, seed=1)

    def standard(x: Tensor) -> list[list[float]]:
        columns = []
        for column in x.T.tolist():
            mean = sum(column) / 7
            deviation = math.sqrt(sum((value - mean) ** 2 for value in column) / 7 + 1e-5)
            columns.append([(value - mean) / deviation for value in column])
        return columns

    A, B = standard(a), standard(b)
    C = [[sum(x * y for x, y in zip(A[i], B[j], strict=True)) / 7 for j in range(3)] for i in range(3)]
    expected = sum((1 - C[i][i]) ** 2 for i in range(3))
    expected += 0.01 * sum(C[i][j] ** 2 for i in range(3) for j in range(3) if i != j)
    found = cross_correlation_reference(a, b, off_diagonal_weight=0.01)
    assert float(found) == pytest.approx(expected, rel=1e-12)
