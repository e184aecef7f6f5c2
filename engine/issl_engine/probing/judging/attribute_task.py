"""Attributes that an image has or has not: how well those that have it are ranked above those that have not.

Letters: S points of a grid, B images of a block, N images, T attributes, R resamples.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.bootstrap import Floats, mean_of_existing, percentiles, resamples
from issl_engine.probing.judging.task import Task, Verdict
from issl_engine.probing.probes.fitting.predictor import Predictor
from issl_engine.sources.base import TargetTable


class AttributeTask(Task):
    """Mean over attributes of the average precision, in percent, and the average precision of each.

    An unknown attribute (NaN) of an image is left out of that attribute alone; an attribute that no image has, has no
    average precision and is left out of the mean.
    """

    def usable(self, features: Features) -> Features:
        values_NT = attribute_table(features).values_NT
        odd = values_NT[~np.isnan(values_NT) & (values_NT != 0) & (values_NT != 1)]
        if odd.size:
            raise Mistake(
                f"an attribute is {odd[0]:g}, but attributes are 1 (has it), 0 (has not) or NaN (unknown); correct it"
            )
        return features

    def scores(self, predictor: Predictor, features: Features, device: torch.device) -> list[float]:
        once_1N = np.ones((1, len(features)))
        return [
            float(mean_of_existing(_precisions(outputs_NT, features, once_1N), axis=1)[0])
            for outputs_NT in _outputs(predictor, features, device)
        ]

    def judge(self, predictor: Predictor, features: Features, device: torch.device, seed: int) -> list[Verdict]:
        (outputs_NT,) = _outputs(predictor, features, device)
        found_1T = _precisions(outputs_NT, features, np.ones((1, len(features))))
        if np.isnan(found_1T).all():
            raise Mistake("no judged image has any of the attributes, so none can be ranked; judge on more images")
        drawn_RT = np.concatenate(
            [_precisions(outputs_NT, features, counts_RN) for counts_RN in resamples(len(features), seed)]
        )
        columns = {"": (mean_of_existing(found_1T, axis=1), mean_of_existing(drawn_RT, axis=1))}
        names = attribute_table(features).names
        if len(names) > 1:
            columns |= {name: (found_1T[:, t], drawn_RT[:, t]) for t, name in enumerate(names)}
        return [
            Verdict(
                metric="average_precision" if name else "mean_average_precision",
                value=float(value[0]),
                interval=percentiles(drawn_R),
                num_images=len(features),
                setting=name,
            )
            for name, (value, drawn_R) in columns.items()
            if not np.isnan(value[0])
        ]


def attribute_table(features: Features) -> TargetTable:
    """Raises Mistake where the source gives none."""
    if features.attributes is None:
        raise Mistake(
            "the source gives no attributes of images, and the multi_label probe needs them; take it out of probes, or "
            "use a source that has them (shapes; arrays with train_attributes and test_attributes)"
        )
    return features.attributes


def average_precision(output_N: NDArray[Any], has_N: NDArray[Any], counts_RN: Floats) -> Floats:
    """In percent, [r]: the sum over thresholds of precision x the gain in recall, as scikit-learn has it.

    Each image counts ``counts_RN`` times; images of one output are above or below a threshold together. ``has_N`` is 1,
    0 or NaN (left out). NaN where no image that counts has the attribute.
    """
    known = np.flatnonzero(~np.isnan(has_N))
    order = known[np.argsort(-output_N[known], kind="stable")]
    thresholds = np.flatnonzero(np.append(np.diff(output_N[order]) != 0, True))
    counts_RN = counts_RN[:, order]
    above_RN = counts_RN.cumsum(1)[:, thresholds]
    right_RN = (counts_RN * has_N[order]).cumsum(1)[:, thresholds]
    precision_RN = right_RN / np.maximum(above_RN, 1)
    gained_RN = np.diff(right_RN, prepend=0, axis=1)
    total_R = right_RN[:, -1]
    return np.where(total_R > 0, 100 * (gained_RN * precision_RN).sum(1) / np.maximum(total_R, 1), np.nan)


def _precisions(outputs_NT: NDArray[Any], features: Features, counts_RN: Floats) -> Floats:
    """[r, t]."""
    has_NT = attribute_table(features).values_NT
    columns = [
        average_precision(outputs_NT[:, t], has_NT[:, t], counts_RN)
        if not np.isnan(has_NT[:, t]).all()
        else np.full(len(counts_RN), np.nan)
        for t in range(has_NT.shape[1])
    ]
    return np.stack(columns, axis=1)


def _outputs(predictor: Predictor, features: Features, device: torch.device) -> NDArray[np.float32]:
    """[s, n, t]."""
    return torch.cat([predictor.predict(x_BD).cpu() for _, x_BD in features.blocks(device)], dim=1).numpy()
