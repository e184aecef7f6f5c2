"""Wrong arguments are named, with the shapes that do not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from issl_kernels import cross_correlation, distillation, info_nce, sinkhorn, soft_cross_entropy

X = torch.randn
DISSL: dict[str, Any] = {
    "teacher_temperature": 0.5,
    "student_temperature": 1.0,
    "entropy_weight": 2.3,
    "invariance_weight": 0.8,
}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: info_nce(X(2, 3, 4), X(2, 3, 5), temperature=1.0, keep_self=True), r"\(2, 3, 4\) and \(2, 3, 5\)"),
        (lambda: info_nce(X(2, 3, 4), X(2, 4, 4), temperature=1.0, keep_self=True), "anchors_VBD and targets_GBD"),
        (lambda: info_nce(X(1, 3, 4), X(2, 3, 4), temperature=1.0, keep_self=True), "targets_GBD has more views"),
        (lambda: info_nce(X(1, 3, 4), X(1, 3, 4), temperature=1.0, keep_self=False), "one view"),
        (lambda: info_nce(X(3, 4), X(2, 3, 4), temperature=1.0, keep_self=True), "anchors_VBD must have 3 dimensions"),
        (lambda: info_nce(X(2, 0, 4), X(2, 0, 4), temperature=1.0, keep_self=True), "anchors_VBD is empty"),
        (lambda: info_nce(X(2, 3, 4), X(2, 3, 4), temperature=0.0, keep_self=True), "temperature must be positive"),
        (lambda: info_nce(X(2, 3, 4).long(), X(2, 3, 4), temperature=1.0, keep_self=True), "floating-point"),
        (lambda: soft_cross_entropy(X(2, 3, 4), X(2, 3, 5), temperature=1.0), r"\(2, 3, 4\) and \(2, 3, 5\)"),
        (lambda: soft_cross_entropy(X(2, 3, 4), X(2, 3, 4).requires_grad_(), temperature=1.0), "detach them"),
        (lambda: soft_cross_entropy(X(1, 3, 4), X(1, 3, 4), temperature=1.0), "no pair"),
        (lambda: soft_cross_entropy(X(2, 3, 4), X(2, 3, 4), temperature=-1.0), "temperature must be positive"),
        (lambda: distillation(X(2, 3, 4), X(2, 2, 4), **DISSL), "teacher_GBC and student_VBC"),
        (lambda: distillation(X(3, 3, 4), X(2, 3, 4), **DISSL), "teacher_GBC has more views"),
        (lambda: distillation(X(1, 3, 4), X(1, 3, 4), **DISSL), "no pair"),
        (lambda: distillation(X(2, 3, 4), X(2, 3, 4), **DISSL | {"teacher_temperature": 0}), "teacher_temperature"),
        (lambda: sinkhorn(X(3, 4, 5), epsilon=0.1, iterations=3), "scores_NK must have 2 dimensions"),
        (lambda: sinkhorn(X(3, 4), epsilon=0.0, iterations=3), "epsilon must be positive"),
        (lambda: sinkhorn(X(3, 4), epsilon=0.1, iterations=0), "iterations must be at least 1"),
        (lambda: cross_correlation(X(3, 4), X(3, 5), off_diagonal_weight=0.1), r"\(3, 4\) and \(3, 5\)"),
        (lambda: cross_correlation(X(1, 4), X(1, 4), off_diagonal_weight=0.1), "at least two images"),
        (lambda: cross_correlation(X(3, 4), X(3, 4), off_diagonal_weight=-1.0), "not negative"),
        (lambda: cross_correlation(X(3, 4), X(3, 4), off_diagonal_weight=float("nan")), "not negative"),
        (lambda: info_nce(X(2, 3, 4), X(2, 3, 4), temperature=float("nan"), keep_self=True), "temperature"),
        (lambda: info_nce(X(2, 3, 4), X(2, 3, 4), temperature=float("inf"), keep_self=True), "temperature"),
        (lambda: info_nce(X(2, 3, 4), X(2, 3, 4, device="meta"), temperature=1.0, keep_self=True), "move one"),
        (lambda: distillation(X(2, 0, 4), X(2, 0, 4), **DISSL), "teacher_GBC is empty"),
        (lambda: soft_cross_entropy(X(2, 0, 4), X(2, 0, 4), temperature=1.0), "student_VBC is empty"),
        (lambda: sinkhorn(X(0, 4), epsilon=0.1, iterations=3), "scores_NK is empty"),
        (lambda: cross_correlation(X(0, 4), X(0, 4), off_diagonal_weight=0.1), "a_ND is empty"),
    ],
)
def test_the_argument_is_named(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def logits(*shape: int) -> torch.Tensor:
    """Not a leaf, in memory of its own."""
    return X(*shape, requires_grad=True) * 1.0


@pytest.mark.parametrize(
    ("teacher", "student", "sentence"),
    [
        (lambda: X(2, 3, 4).requires_grad_(), lambda: logits(3, 3, 4), "would overwrite teacher_GBC, a leaf"),
        (lambda: logits(2, 3, 4), lambda: X(3, 3, 4).requires_grad_(), "would overwrite student_VBC, a leaf"),
        (lambda: X(3, 3, 4).requires_grad_()[:2], lambda: logits(3, 3, 4), "teacher_GBC, a view of a leaf"),
        (lambda: logits(1, 3, 4).expand(2, 3, 4), lambda: logits(3, 3, 4), "teacher_GBC in memory of its own"),
        (lambda: logits(2, 3, 4), lambda: logits(3, 4, 3).transpose(1, 2), "contiguous along the classes"),
    ],
)
def test_logits_that_may_not_be_overwritten_are_named(
    teacher: Callable[[], torch.Tensor], student: Callable[[], torch.Tensor], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        distillation(teacher(), student(), **DISSL, overwrite_logits=True)


def test_views_of_the_same_logits_may_not_be_overwritten() -> None:
    """A head that teacher and student share: each gradient would be written over the other's logits."""
    shared = logits(3, 3, 4)
    with pytest.raises(ValueError, match="teacher_GBC and student_VBC in memory of their own, but they share it"):
        distillation(shared[:2], shared, **DISSL, overwrite_logits=True)


def test_overwritten_logits_allow_one_backward_pass() -> None:
    loss, _ = distillation(logits(2, 3, 4), logits(3, 3, 4), **DISSL, overwrite_logits=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_value_that_is_not_finite_is_named_under_the_debug_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = X(2, 3, 4), X(3, 3, 4)
    student[2, 1, 3] = torch.inf
    distillation(teacher, student, **DISSL)
    monkeypatch.setenv("ISSL_KERNELS_CHECK", "1")
    with pytest.raises(
        ValueError, match=r"student_VBC holds 1 values .* inf in student_VBC\[2, 1\], at position 3 of 4"
    ):
        distillation(teacher, student, **DISSL)
