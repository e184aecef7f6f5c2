"""Numbers: the share of their variance that is predicted, and the error that is left.

Letters: S points of a grid, B images of a block, N images, T targets, R resamples.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.bootstrap import Floats, mean_interval, mean_of_existing
from issl_engine.probing.judging.task import Task, Verdict
from issl_engine.probing.probes.fitting.predictor import Predictor
from issl_engine.sources.base import TargetTable

Formula = Callable[[Floats], Floats]
"""Means of the statistics [..., t, 3] → the metric [...]."""


class ValueTask(Task):
    """R² (the coefficient of determination) and the root mean square error, as means over targets and of each target.

    R² is 1 - squared error / squared deviation from the mean of the judged images; a target that is constant there has
    none and is left out of the mean. In the mean, errors are in units of a target's deviation over the judged images,
    and of one target in its own. An image with an unknown target (NaN) is left out.
    """

    def usable(self, features: Features) -> Features:
        known_N = ~np.isnan(value_table(features).values_NT).any(1)
        if known_N.all():
            return features
        if not known_N.any():
            raise Mistake("every image lacks one of the values to predict (NaN); fill them in or leave a column out")
        return features.subset(torch.from_numpy(np.flatnonzero(known_N)))

    def scores(self, predictor: Predictor, features: Features, device: torch.device) -> list[float]:
        return [float(_mean_r2(of_point.mean(0))) for of_point in _statistics(predictor, features, device)]

    def judge(self, predictor: Predictor, features: Features, device: torch.device, seed: int) -> list[Verdict]:
        (statistics_NTK,) = _statistics(predictor, features, device)
        names = value_table(features).names
        verdicts = [
            _verdict("r2", _mean_r2, statistics_NTK, seed),
            _verdict("rmse", _relative_rmse, statistics_NTK, seed),
        ]
        if np.isnan(verdicts[0].value):
            raise Mistake("every value to predict is constant over the judged images; judge on more images")
        if len(names) > 1:
            for place, name in enumerate(names):
                of_one = statistics_NTK[:, place : place + 1]
                verdicts += [_verdict("r2", _mean_r2, of_one, seed, name), _verdict("rmse", _rmse, of_one, seed, name)]
        return [verdict for verdict in verdicts if not np.isnan(verdict.value)]


def value_table(features: Features) -> TargetTable:
    """Raises Mistake where the source gives none."""
    if features.values is None:
        raise Mistake(
            "the source gives no numbers to predict besides the class, and the regression probe needs them; take it "
            "out of probes, or use a source that has them (shapes; arrays with train_values and test_values)"
        )
    return features.values


def _statistics(predictor: Predictor, features: Features, device: torch.device) -> Floats:
    """[s, n, t, 3]: the target, its square (both from a shift near the mean), and the squared error."""
    values_NT = torch.from_numpy(value_table(features).values_NT).double()
    outputs: list[Tensor] = [predictor.predict(x_BD).double().cpu() for _, x_BD in features.blocks(device)]
    error_SNT = torch.cat(outputs, dim=1) - values_NT
    shifted_SNT = (values_NT - values_NT.mean(0)).expand_as(error_SNT)
    return torch.stack([shifted_SNT, shifted_SNT.square(), error_SNT.square()], dim=-1).numpy()


def _variance(means: Floats) -> Floats:
    """[..., t]; NaN for a target that is constant."""
    variance = means[..., 1] - means[..., 0] ** 2
    return np.where(variance > 1e-12 * means[..., 1], variance, np.nan)


def _verdict(metric: str, formula: Formula, statistics_NTK: Floats, seed: int, setting: str = "") -> Verdict:
    count, *shape = statistics_NTK.shape
    value = float(formula(statistics_NTK.mean(0)))
    if np.isnan(value):
        return Verdict(metric=metric, value=value, interval=(value, value), num_images=count, setting=setting)
    interval = mean_interval(
        statistics_NTK.reshape(count, -1), lambda means_RK: formula(means_RK.reshape(-1, *shape)), seed
    )
    return Verdict(metric=metric, value=value, interval=interval, num_images=count, setting=setting)


def _mean_r2(means: Floats) -> Floats:
    return 1 - mean_of_existing(means[..., 2] / _variance(means), axis=-1)


def _relative_rmse(means: Floats) -> Floats:
    return np.sqrt(mean_of_existing(means[..., 2] / _variance(means), axis=-1))


def _rmse(means: Floats) -> Floats:
    """Of a single target."""
    return np.sqrt(means[..., 0, 2])
