"""All regularisers of a recipe, and the penalties that they add to a loss.

Letters: G global views; B images on this rank, N of all ranks; D width of the representation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.objectives.base import ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.regularizers.base import Regularizer, RegularizerConfig
from issl_kernels.collectives import gather_rows
from issl_kernels.precision import arithmetic_dtype


class Penalties(nn.Module):
    """Adds every regulariser's weighted penalty, over the rows of all ranks, which are gathered once."""

    def __init__(self, configs: Sequence[RegularizerConfig], shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.configs = tuple(configs)
        self.group = group
        self.regularizers = nn.ModuleList(config.build(shape) for config in configs)

    def forward(self, z_GBD: Tensor, output: ObjectiveOutput, progress: Progress) -> ObjectiveOutput:
        """``output`` with the penalties added to its loss. Its metrics gain ``regularizer.<name>``, a penalty without
        its weight, and ``objective_loss``, the loss without penalties."""
        loss, metrics = output.loss, output.metrics | {"objective_loss": output.loss.detach()}
        with torch.autocast(z_GBD.device.type, enabled=False):
            rows_GND = gather_rows(z_GBD.to(arithmetic_dtype(z_GBD)), self.group, dim=1)
            for config, regularizer in zip(self.configs, self.regularizers, strict=True):
                assert isinstance(regularizer, Regularizer)
                penalty = regularizer(rows_GND)
                metrics[f"regularizer.{config.name}"] = penalty.detach()
                if progress.epoch >= config.start_epochs:
                    loss = loss + config.weight * penalty
        return ObjectiveOutput(loss, metrics)
