"""Classes: the share of right answers.

Letters: S points of a grid, B images of a block, N images, C classes, R resamples.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.bootstrap import mean_share_interval, share_interval
from issl_engine.probing.judging.task import Task, Verdict
from issl_engine.probing.probes.fitting.predictor import Predictor

ClassMetric = Literal["top1", "top5", "mean_per_class"]
TOP = 5


class ClassTask(Task):
    """Accuracy in percent: top-1, top-5, or the mean over classes of each class's top-1. The first metric chooses."""

    def __init__(self, metrics: tuple[ClassMetric, ...] = ("top1",)) -> None:
        self.metrics = tuple(dict.fromkeys(metrics))

    def usable(self, features: Features) -> Features:
        unlabelled = int((features.labels_N < 0).sum())
        if unlabelled:
            raise Mistake(
                f"{unlabelled} of {len(features)} images to probe have no class (label -1); leave them out of the "
                "source's train and test splits, or probe what they have with regression or multi_label"
            )
        return features

    def scores(self, predictor: Predictor, features: Features, device: torch.device) -> list[float]:
        (metric,) = self.metrics[:1]
        right_SN = _right(predictor, features, device, top=TOP if metric == "top5" else 1)
        if metric == "mean_per_class":
            return [_mean_per_class(right_N, features.labels_N) for right_N in right_SN]
        return (100 * right_SN.sum(1).double() / len(features)).tolist()

    def judge(self, predictor: Predictor, features: Features, device: torch.device, seed: int) -> list[Verdict]:
        return [self._verdict(metric, predictor, features, device, seed) for metric in self.metrics]

    def _verdict(
        self, metric: ClassMetric, predictor: Predictor, features: Features, device: torch.device, seed: int
    ) -> Verdict:
        (right_N,) = _right(predictor, features, device, top=TOP if metric == "top5" else 1)
        correct, count = int(right_N.sum()), len(features)
        if metric == "mean_per_class":
            value = _mean_per_class(right_N, features.labels_N)
            interval = mean_share_interval(*_by_class(right_N, features.labels_N), seed)
            return Verdict(metric=metric, value=value, interval=interval, num_images=count)
        return Verdict(
            metric=metric,
            value=100 * correct / count,
            interval=share_interval(correct, count, seed),
            num_images=count,
            right_N=right_N.numpy(),
        )


def _right(predictor: Predictor, features: Features, device: torch.device, *, top: int) -> Tensor:
    """bool [s, n] on the CPU: whether each point tells the class, or has it among its ``top``."""
    found = []
    for part, x_BD in features.blocks(device):
        labels_B = features.labels_N[part].to(device)
        if top == 1:
            found.append((predictor.predict(x_BD) == labels_B).cpu())
        else:
            found.append((predictor.ranked(x_BD, top) == labels_B[:, None]).any(2).cpu())
    return torch.cat(found, dim=1)


def _by_class(right_N: Tensor, labels_N: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Right answers, images) of each class that has images."""
    images_C = labels_N.bincount()
    right_C = labels_N[right_N].bincount(minlength=len(images_C))
    present_C = images_C > 0
    return right_C[present_C].numpy(), images_C[present_C].numpy()


def _mean_per_class(right_N: Tensor, labels_N: Tensor) -> float:
    right_C, images_C = _by_class(right_N, labels_N)
    return float(100 * (right_C / images_C).mean())
