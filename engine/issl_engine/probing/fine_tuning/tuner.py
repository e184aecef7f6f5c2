"""Fine-tuning: the whole encoder and a linear head, supervised, on all labels or a share of them.

A plain torch loop on one device, in fp32: fine-tuning sets are small beside pretraining's, and nothing here is shared
between ranks.

Letters: B images of a batch, C classes.
"""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from issl_engine.config import Config
from issl_engine.loading import TrainingViews
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder
from issl_engine.probing.features.crops import one_crop
from issl_engine.probing.probes.base import Crops
from issl_engine.sources.base import ImageSet
from issl_engine.views.preprocessing import Preprocessing

_log = logging.getLogger("issl_engine")

MOMENTUM = 0.9
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class FineTuningConfig(Config):
    """The encoder goes on training with a linear head, on crops and flips of labelled images."""

    label_fractions: Annotated[tuple[Share, ...], Field(min_length=1)] = (1.0,)
    """Shares of the training images whose labels are used, each a run of its own; at least two images per class."""
    epochs: Annotated[int, Field(ge=1)] = 30
    """Passes over the labelled images; the learning rate falls along a cosine to zero."""
    batch_size: Annotated[int, Field(ge=2)] = 256
    """Images per step; all of them where there are fewer. An incomplete last batch of an epoch is left out."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (momentum 0.9) for ResNets, adamw for vision transformers."""
    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.01, 0.03, 0.1)
    """Peak learning rates of the grid, chosen on held-out images of the labelled ones."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Of matrices and kernels; biases and norms have none."""
    head_lr_factor: Positive = 1.0
    """The head's learning rate over the encoder's: it starts from zero, the encoder from pretraining."""
    layer_decay: Share = 1.0
    """The learning rate of each block over that of the block after it (Clark et al. 2020); 1 gives all the same."""
    area: tuple[Positive, Share] = (0.08, 1.0)
    """Range of the share of an image that a training crop covers."""


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """Fine-tunes copies of one encoder; the encoder itself stays as it is."""

    encoder: nn.Module
    """On ``device``; has ``dim``."""
    num_classes: int
    config: FineTuningConfig
    preprocessing: Preprocessing
    device: torch.device
    num_threads: int
    seed: int

    def fine_tuned(self, images: ImageSet, lr: float) -> nn.Module:
        """Encoder and head after training on ``images``, in evaluation mode. Weights that have overflowed stay so.

        Raises Mistake for an image that cannot be decoded, and where ``layer_decay`` finds no blocks.
        """
        encoder = copy.deepcopy(self.encoder).requires_grad_(True).train()
        assert isinstance(encoder.dim, int)
        head = nn.Linear(encoder.dim, self.num_classes).to(self.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        model = nn.Sequential(encoder, head)
        groups = parameter_groups(encoder, head, self.config, lr)
        optimizer: torch.optim.Optimizer
        if self.config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM)
        else:
            optimizer = torch.optim.AdamW(groups, lr=lr)
        loader = self._loader(images)
        try:
            self._train(model, optimizer, loader)
        finally:
            loader.close()
        return model.eval()

    def _loader(self, images: ImageSet) -> TrainingViews:
        config = self.config
        crops = Crops(
            area=config.area, ratio=(3 / 4, 4 / 3), flip=0.5, batch_size=config.batch_size, epochs=config.epochs
        )  # fmt: skip
        return TrainingViews(
            images, one_crop(self.preprocessing, crops), batch_size=min(config.batch_size, len(images)),
            rank=0, world_size=1, seed=self.seed, device=self.device, num_threads=self.num_threads,
            channels_last=True,
        )  # fmt: skip

    def _train(self, model: nn.Module, optimizer: torch.optim.Optimizer, loader: TrainingViews) -> None:
        peaks = [group["lr"] for group in optimizer.param_groups]
        steps = self.config.epochs * loader.batches_per_epoch
        for step in range(steps):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / steps))
            batch = next(loader).to(self.device)
            loss = F.cross_entropy(model(batch.crops[0][0]), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def parameter_groups(
    encoder: nn.Module, head: nn.Module, config: FineTuningConfig, lr: float
) -> list[dict[str, object]]:
    """Of each layer its own learning rate; weight decay for what has two axes or more.

    With L blocks, layer 0 is what comes before them, then the blocks, then what follows them; the head comes last.
    """
    layers = _layers(encoder) if config.layer_decay < 1 else [list(encoder.parameters())]
    groups: list[dict[str, object]] = []
    for below_head, layer in enumerate(reversed(layers)):
        groups += _by_decay(layer, lr * config.layer_decay**below_head, config.weight_decay)
    return groups + _by_decay(list(head.parameters()), lr * config.head_lr_factor, config.weight_decay)


def _layers(encoder: nn.Module) -> list[list[nn.Parameter]]:
    try:
        blocks = encoder.blocks() if isinstance(encoder, Encoder) else []
    except Mistake:
        blocks = []  # its sentence speaks of what blocks are for in pretraining
    if not blocks:
        raise Mistake(
            "fine_tuning.layer_decay: this encoder does not name its blocks, so they cannot have learning rates of "
            "their own; set layer_decay to 1"
        )
    layer_of = {id(parameter): 1 + place for place, block in enumerate(blocks) for parameter in block.parameters()}
    layers: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 2)]
    reached = 0
    for parameter in encoder.parameters():
        reached = max(reached, layer_of.get(id(parameter), 0))
        after = len(blocks) + 1 if reached else 0
        layers[layer_of.get(id(parameter), after)].append(parameter)
    return layers


def _by_decay(parameters: Sequence[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, object]]:
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups: list[dict[str, object]] = [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
