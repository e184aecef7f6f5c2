"""A linear classifier trained beside the encoder on its detached representations.

Letters: B images on this rank, D width of the representation, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.mistakes import Mistake
from issl_engine.models.guarded_buffers import GuardedBuffers
from issl_engine.models.synchronised_batch_norm import SynchronisedBatchNorm
from issl_kernels.collectives import all_reduce_sum_, world_size


class OnlineProbe(nn.Module):
    """Linear probe with its own Adam; sends no gradient back.

    It draws no random numbers, so that training goes on the same without it: its weights start at zero.
    Representations [B, D] are normalised by the batch, without learnt scale, so that one learning rate serves
    every encoder. Over several ranks it is the probe of the joined batch, its loss and accuracy too: normalisation and
    gradients go over ``group``; None means this process alone.
    """

    def __init__(self, dim: int, num_classes: int, *, lr: float, group: ProcessGroup | None = None) -> None:
        super().__init__()
        self.norm = SynchronisedBatchNorm(dim, affine=False, group=group)
        self.weight = nn.Parameter(torch.zeros(num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.group = group
        self.optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr, fused=True)

    def step(self, z_BD: Tensor, labels_B: Tensor, skipped: Tensor | None = None) -> dict[str, Tensor]:
        """One update; {loss in nats, top1 in percent, before the update}, detached. Nothing changes where ``skipped``,
        a scalar on the device, is 1 instead of 0. Mistake for one image."""
        if len(z_BD) * world_size(self.group) < 2:
            raise Mistake(
                "the online probe normalises by the batch, so it needs at least 2 images in a forward pass; "
                "raise training.global_batch_size or set online_probe to null"
            )
        self.optimizer.zero_grad()
        statistics = GuardedBuffers(self.norm.buffers())
        statistics.save()
        # The backward pass too: under a caller's autocast its matmuls would be bf16.
        with torch.autocast(z_BD.device.type, enabled=False):
            logits_BC = F.linear(self.norm(z_BD.detach().float()), self.weight, self.bias)
            loss = F.cross_entropy(logits_BC, labels_B)
            loss.backward()
        top1 = (logits_BC.argmax(1) == labels_B).to(loss.dtype).mean() * 100
        assert self.weight.grad is not None
        assert self.bias.grad is not None
        loss, top1 = _mean_over_ranks([self.weight.grad, self.bias.grad], [loss.detach(), top1], self.group)
        if skipped is not None:
            self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
            statistics.restore_where(skipped)
        self.optimizer.step()
        return {"loss": loss, "top1": top1}

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state, so that state_dict holds all."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def _mean_over_ranks(gradients: list[Tensor], scalars: list[Tensor], group: ProcessGroup | None) -> list[Tensor]:
    """Averages the gradients in place and gives the averaged scalars, in one all-reduce."""
    if group is None:
        return scalars
    everything = [*gradients, *scalars]
    flat = torch.cat([tensor.flatten() for tensor in everything])
    means = (all_reduce_sum_(flat, group) / world_size(group)).split([tensor.numel() for tensor in everything])
    for gradient, mean in zip(gradients, means, strict=False):
        gradient.copy_(mean.view_as(gradient))
    return [mean.squeeze(0) for mean in means[len(gradients) :]]
