"""Classes: the share of right answers.

Letters: S points of a grid, B images of a block.
"""

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.bootstrap import share_interval
from issl_engine.probing.judging.task import Task, Verdict
from issl_engine.probing.probes.fitting.predictor import Predictor


class ClassTask(Task):
    """Top-1 accuracy in percent."""

    def usable(self, features: Features) -> Features:
        unlabelled = int((features.labels_N < 0).sum())
        if unlabelled:
            raise Mistake(
                f"{unlabelled} of {len(features)} images to probe have no class (label -1); leave them out of the "
                "source's train and test splits, or probe what they have with regression or multi_label"
            )
        return features

    def scores(self, predictor: Predictor, features: Features, device: torch.device) -> list[float]:
        return (100 * _correct(predictor, features, device).double() / len(features)).tolist()

    def judge(self, predictor: Predictor, features: Features, device: torch.device, seed: int) -> list[Verdict]:
        (correct,) = _correct(predictor, features, device).tolist()
        return [
            Verdict(
                metric="top1",
                value=100 * correct / len(features),
                interval=share_interval(correct, len(features), seed),
                num_images=len(features),
            )
        ]


def _correct(predictor: Predictor, features: Features, device: torch.device) -> Tensor:
    """int64 [s]: images whose class each point tells."""
    counts = [
        (predictor.predict(x_BD) == features.labels_N[part].to(device)).sum(1) for part, x_BD in features.blocks(device)
    ]
    return torch.stack(counts).sum(0)
