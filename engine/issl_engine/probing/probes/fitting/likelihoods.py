"""Losses that are convex in the outputs of a linear model, and their derivatives.

Letters: N images, C classes or attributes; b images of a block.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class Likelihood(ABC):
    """The negative log-likelihood of labels, as a function of outputs float32 [b, c]."""

    start_C: Tensor
    """float64: the outputs, equal for all images, of the smallest loss."""

    @abstractmethod
    def terms(self, outputs_bC: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """(Sum of losses in nats, a float64 scalar; its gradient [b, c]; what is expected of the labels [b, c])."""

    @abstractmethod
    def curvature(self, expected_bC: Tensor, part: slice) -> Tensor:
        """Sum over images of the second derivatives by the outputs, float64 [c, c]."""


class Softmax(Likelihood):
    """The cross-entropy of one class an image: ``labels_N`` int64 from 0 to C - 1, every class among them."""

    def __init__(self, labels_N: Tensor) -> None:
        self.labels_N = labels_N
        self.start_C = (labels_N.bincount().double() / len(labels_N)).log()

    def terms(self, outputs_bC: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        labels_b1 = self.labels_N[part, None]
        logs_bC = outputs_bC.log_softmax(1)
        loss = -logs_bC.gather(1, labels_b1).double().sum()
        expected_bC = logs_bC.exp()
        return (
            loss,
            expected_bC.scatter_add(1, labels_b1, -torch.ones_like(labels_b1, dtype=torch.float32)),
            expected_bC,
        )

    def curvature(self, expected_bC: Tensor, part: slice) -> Tensor:
        # diag(p) - pp', with p (1 - p) as the sum of p's products with the others: nothing cancels near 0 and 1, and
        # the rows add up to zero, as they must.
        products_CC = (expected_bC.T @ expected_bC).double().fill_diagonal_(0)
        return torch.diag(products_CC.sum(1)) - products_CC


class Bernoulli(Likelihood):
    """The cross-entropy of attributes by themselves: ``has_NT`` 0 or 1, and where it is known, both float32.

    Of every attribute some image has it and some has not.
    """

    def __init__(self, has_NT: Tensor, known_NT: Tensor) -> None:
        self.has_NT, self.known_NT = has_NT * known_NT, known_NT
        self.start_C = (self.has_NT.double().sum(0) / known_NT.double().sum(0)).logit()

    def terms(self, outputs_bC: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        has_bT, known_bT = self.has_NT[part], self.known_NT[part]
        losses_bT = F.binary_cross_entropy_with_logits(outputs_bC, has_bT, reduction="none") * known_bT
        expected_bT = outputs_bC.sigmoid()
        return losses_bT.double().sum(), (expected_bT - has_bT) * known_bT, expected_bT

    def curvature(self, expected_bC: Tensor, part: slice) -> Tensor:
        return torch.diag((expected_bC * (1 - expected_bC) * self.known_NT[part]).double().sum(0))
