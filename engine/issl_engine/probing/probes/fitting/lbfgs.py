"""Penalised regression by L-BFGS on features that are read block by block.

Letters: N images, D width, C outputs; b images of a block.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.fitting.predictor import LinearOutputs
from issl_engine.probing.probes.fitting.standardise import moments

RESIDENT_BYTES = 2**30
"""Standardised rows of at most so much are kept on the device; more are read anew at each evaluation."""

Blocks = Callable[[], Iterable[tuple[slice, Tensor]]]
LossSum = Callable[[Tensor, slice], Tensor]
"""(outputs [b, c], which images) → the sum of their losses, a scalar."""


def fit_path(
    features: Features, loss_sum: LossSum, *, num_outputs: int, wanted: Sequence[float], Cs: Sequence[float],
    max_iterations: int, device: torch.device,
) -> LinearOutputs:  # fmt: skip
    """The solutions for the Cs that are ``wanted``, on standardised features; the path starts at the strongest penalty
    of all ``Cs`` and ends at the weakest wanted, so that a solution does not depend on what else is wanted."""
    scale_D, offset_D = moments(features, device).standardising
    weakest = max(wanted)
    path = [strength for strength in sorted(set(Cs)) if strength <= weakest]
    solutions = minimise_path(
        standardised_blocks(features, scale_D, offset_D), loss_sum,
        torch.zeros(num_outputs, features.width, device=device, requires_grad=True),
        torch.zeros(num_outputs, device=device, requires_grad=True),
        Cs=path, num_images=len(features), max_iterations=max_iterations,
    )  # fmt: skip
    kept = [solutions[path.index(C)] for C in wanted]
    return LinearOutputs(
        weights_SCD=torch.stack([weight_CD for weight_CD, _ in kept]),
        bias_SC=torch.stack([bias_C for _, bias_C in kept]),
        scale_G1D=scale_D[None, None],
        offset_G1D=offset_D[None, None],
    )


def standardised_blocks(
    features: Features, scale_D: Tensor, offset_D: Tensor, *, resident_bytes: int | None = None
) -> Blocks:
    """A pass over x * scale + offset, as often as it is called, on the device of ``scale_D``.

    Rows of at most ``resident_bytes`` (None: RESIDENT_BYTES) are kept there.
    """

    def read() -> Iterator[tuple[slice, Tensor]]:
        for part, x_bD in features.blocks(scale_D.device):
            yield part, torch.addcmul(offset_D, x_bD, scale_D)

    if 4 * len(features) * features.width > (RESIDENT_BYTES if resident_bytes is None else resident_bytes):
        return read
    whole = [(slice(0, len(features)), torch.cat([x_bD for _, x_bD in read()]))]
    return lambda: whole


def minimise_path(
    blocks: Blocks, loss_sum: LossSum, weight_CD: Tensor, bias_C: Tensor, *, Cs: Sequence[float], num_images: int,
    max_iterations: int,
) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
    """(Weights, biases) that minimise C x the sum of losses + half the squared weights, for each C of ``Cs``.

    scikit-learn's LogisticRegression minimises the same, biases free of the penalty. Each C starts from the solution
    of the one before, the first from ``weight_CD`` and ``bias_C``, which need gradients and are changed.
    """
    solutions = []
    for C in Cs:
        _minimise(blocks, loss_sum, weight_CD, bias_C, 1 / (C * num_images), num_images, max_iterations)
        solutions.append((weight_CD.detach().clone(), bias_C.detach().clone()))
    return solutions


def _minimise(
    blocks: Blocks, loss_sum: LossSum, weight_CD: Tensor, bias_C: Tensor, decay: float, num_images: int,
    max_iterations: int,
) -> None:  # fmt: skip
    """Divided by C and by the number of images, so that steps and tolerances know a mean loss."""
    optimizer = torch.optim.LBFGS([weight_CD, bias_C], max_iter=max_iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = decay / 2 * weight_CD.square().sum()
        total.backward()
        total = total.detach()
        for part, x_bD in blocks():
            loss = loss_sum(F.linear(x_bD, weight_CD, bias_C), part) / num_images
            loss.backward()
            total += loss.detach()
        return total

    optimizer.step(closure)
