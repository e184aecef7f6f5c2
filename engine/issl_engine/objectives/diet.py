"""DIET (Balestriero 2023, arXiv 2302.10260): classify each training image as itself.

Letters: V views, all alike here; B images on this rank; N training images, each a class; D width of the
representation.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.ranges import Range, Uniform
from issl_kernels import linear_soft_cross_entropy
from issl_kernels.collectives import all_reduce_sum, world_size
from issl_kernels.precision import arithmetic_dtype


class DIETConfig(ObjectiveConfig):
    """Linear classification with the image's index as its class; compares neither views nor images, and has no
    projection head."""

    name: Literal["diet"] = "diet"
    """Which objective this is."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """Share of the target that is spread evenly over all images."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "label_smoothing": Uniform(0.0, 0.9),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        if shape.num_images is None:
            raise Mistake(
                "objective diet has a class for each training image, and how many there are is not known here, where "
                "no data is loaded; choose another objective"
            )
        return DIET(self, shape.num_images, shape, group)


class DIET(Objective):
    """Mean over views and images of CE((1 − s)·onehot(index) + s/N, softmax(W z)), s the label smoothing; in nats.

    W [N, D] has no bias, and grows with the data: with Adam's two moments and the gradient it takes 16·N·D bytes in
    fp32, on every rank (ZeRO shards the moments): 42 GB for ImageNet and D = 2048. The B·V·N logits are made in blocks
    and never held.
    """

    uses_image_ids = True
    collapse_advice = (
        "the head does not distinguish images: train longer (training.epochs), raise optimizer.lr or lower "
        "objective.label_smoothing"
    )

    def __init__(self, config: DIETConfig, num_images: int, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.smoothing = config.label_smoothing
        self.group = group
        self.collapse_loss = math.log(num_images)
        self.target_entropy = _smoothed_entropy(config.label_smoothing, num_images)
        self.weight = nn.Parameter(torch.empty(num_images, shape.feature_dim))
        bound = shape.feature_dim**-0.5  # as nn.Linear starts
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(
        self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress, ids_B: Tensor | None = None
    ) -> ObjectiveOutput:
        assert ids_B is not None, "DIET needs the images' places in the training images"
        N = len(self.weight)
        # CE(target, ·) = CE(uniform, ·) − (1 − s)·(own logit − mean logit): a uniform target takes no memory.
        uniform = torch.full((1, 1, 1), 1 / N, device=z_VBD.device, dtype=arithmetic_dtype(z_VBD))
        spread = linear_soft_cross_entropy(
            z_VBD, self.weight, None, uniform.expand(1, len(ids_B), N), temperature=1.0, skip_same_view=False
        )
        with torch.autocast(z_VBD.device.type, enabled=False):
            rows_VBD = z_VBD.to(arithmetic_dtype(z_VBD))
            own_BD = F.embedding(ids_B, self.weight) - self.weight.mean(0)
            own_loss = spread - (1 - self.smoothing) * (rows_VBD * own_BD).sum(-1).mean()
            loss = all_reduce_sum(own_loss, self.group) / world_size(self.group)
        return ObjectiveOutput(loss, {"target_kl": loss.detach() - self.target_entropy})


def _smoothed_entropy(smoothing: float, num_images: int) -> float:
    """Entropy of a target, in nats: the loss cannot be lower."""
    rest = smoothing / num_images
    own = 1 - smoothing + rest
    return -own * math.log(own) - ((num_images - 1) * rest * math.log(rest) if rest > 0 else 0.0)
