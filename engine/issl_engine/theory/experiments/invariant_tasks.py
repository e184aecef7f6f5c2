"""Errors of probes on all invariant tasks, as points: what most experiments measure of a representation."""

from collections.abc import Iterator

from torch import Tensor

from issl_engine.theory.experiments.base import Measured
from issl_engine.theory.labelings import labels_of_images
from issl_engine.theory.linear_probes import linear_probes
from issl_engine.theory.mlp_probes import mlp_probes
from issl_engine.theory.points import Point


def linear_points(
    series: str, x: float, measured: Measured, labelings_LC: Tensor, seed: int, *, suffix: str = ""
) -> Iterator[Point]:
    """Worst and mean error of the labelings' linear probes in percent, and their convergence gap in nats."""
    found = linear_probes(measured.train_Nd, labels_of_images(labelings_LC, measured.train_classes_N), measured.test_Md)
    errors_L = 100 * found.errors(labels_of_images(labelings_LC, measured.test_classes_M))
    yield from error_points(series, x, errors_L, seed, suffix=suffix)
    yield Point(series=series, x=x, metric=f"probe_gap{suffix}", seed=seed, value=found.gap)


def mlp_points(
    series: str, x: float, measured: Measured, labelings_LC: Tensor, seed: int, *, hidden_dim: int, steps: int,
    suffix: str = "_mlp",
) -> Iterator[Point]:  # fmt: skip
    """Worst and mean error of the labelings' MLP probes in percent, and the largest norm of a probe's gradient where
    it stopped, in nats: no bound, since an MLP's loss is not convex, but it says whether the steps were enough."""
    found = mlp_probes(
        measured.train_Nd, labels_of_images(labelings_LC, measured.train_classes_N),
        measured.test_Md, labels_of_images(labelings_LC, measured.test_classes_M),
        hidden_dim=hidden_dim, steps=steps, seed=seed,
    )  # fmt: skip
    yield from error_points(series, x, 100 * found.errors_L, seed, suffix=suffix)
    yield Point(series=series, x=x, metric=f"probe_gradient{suffix}", seed=seed, value=found.gradient_norm)


def error_points(series: str, x: float, errors_L: Tensor, seed: int, *, suffix: str = "") -> Iterator[Point]:
    """The largest and the mean of errors in percent."""
    yield Point(series=series, x=x, metric=f"worst_error{suffix}", seed=seed, value=float(errors_L.max()))
    yield Point(series=series, x=x, metric=f"mean_error{suffix}", seed=seed, value=float(errors_L.mean()))
