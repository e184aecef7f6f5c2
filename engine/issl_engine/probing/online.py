"""A linear classifier trained beside the encoder on its detached representations.

Letters: B images on this rank, D width of the representation, C classes.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional as F


class OnlineProbe(nn.Module):
    """Linear probe with its own Adam; sends no gradient back.

    It draws no random numbers, so that training goes on the same without it: its weights start at zero.
    Representations [B, D] are normalised by the batch, without learnt scale, so that one learning rate serves
    every encoder. Across ranks its gradients are averaged over ``group``; None means this process alone.
    """

    def __init__(self, dim: int, num_classes: int, *, lr: float, group: ProcessGroup | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.weight = nn.Parameter(torch.zeros(num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.group = group
        self.optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr, fused=True)

    def step(self, z_BD: Tensor, labels_B: Tensor, skipped: Tensor | None = None) -> dict[str, Tensor]:
        """One update; {loss in nats, top1 in percent, before the update}, detached. Nothing changes where ``skipped``,
        a scalar on the device, is 1 instead of 0. ValueError for one image."""
        if len(z_BD) < 2:
            raise ValueError(
                "the online probe normalises by the batch, so it needs at least 2 images a rank and pass; "
                "raise training.global_batch_size or set online_probe to null"
            )
        self.optimizer.zero_grad()
        before = [buffer.clone() for buffer in self.norm.buffers()]
        # The backward pass too: under a caller's autocast its matmuls would be bf16.
        with torch.autocast(z_BD.device.type, enabled=False):
            logits_BC = F.linear(self.norm(z_BD.detach().float()), self.weight, self.bias)
            loss = F.cross_entropy(logits_BC, labels_B)
            loss.backward()
        if self.group is not None:
            for parameter in (self.weight, self.bias):
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad, group=self.group)
                parameter.grad /= dist.get_world_size(self.group)
        if skipped is not None:
            self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
            with torch.no_grad():
                for buffer, value in zip(self.norm.buffers(), before, strict=True):
                    buffer.copy_(value.where(skipped > 0, buffer))
        self.optimizer.step()
        top1 = (logits_BC.argmax(1) == labels_B).float().mean() * 100
        return {"loss": loss.detach(), "top1": top1}

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state, so that state_dict holds all."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
