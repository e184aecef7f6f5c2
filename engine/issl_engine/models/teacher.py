"""The EMA teacher of DINO and BYOL: a slow copy of encoder and projector.

Letters: N images, C channels, H height, W width; P width of the projection.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class EmaTeacher(nn.Module):
    """Starts as a copy of ``encoder`` and ``projector``; none of its weights takes a gradient.

    It follows ``train()`` and ``eval()`` like any module: while it trains, its batch-norm normalises by the
    statistics of its own batch, the global crops, as in DINO and BYOL.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.projector = copy.deepcopy(projector)
        self.requires_grad_(False)

    @torch.no_grad()
    def update(self, encoder: nn.Module, projector: nn.Module, momentum: float, skipped: Tensor | None = None) -> None:
        """weights = momentum · weights + (1 − momentum) · theirs; nothing changes where ``skipped``, a scalar on the
        device, is 1 instead of 0.

        Buffers (batch-norm's running statistics) are copied as they are: training never reads them, and a
        teacher in eval mode then normalises as the student does.
        """
        pairs = ((self.encoder, encoder), (self.projector, projector))
        own: list[Tensor] = [parameter for module, _ in pairs for parameter in module.parameters()]
        theirs: list[Tensor] = [parameter for _, module in pairs for parameter in module.parameters()]
        assert len(own) == len(theirs), "the teacher and the student differ in their layers"
        if skipped is None:
            torch._foreach_lerp_(own, theirs, 1 - momentum)
        else:
            # Lists take no weight that only the device knows, so this is lerp in three parts; times 0 leaves it as is.
            differences = torch._foreach_sub(theirs, own)
            torch._foreach_mul_(differences, (1 - momentum) * (1 - skipped))
            torch._foreach_add_(own, differences)
        for own_buffer, their_buffer in zip(_buffers(pairs, 0), _buffers(pairs, 1), strict=True):
            own_buffer.copy_(their_buffer)

    @torch.no_grad()
    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Projections [N, P] of images, without gradient."""
        projections_NP: Tensor = self.projector(self.encoder(images_NCHW))
        return projections_NP


def _buffers(pairs: tuple[tuple[nn.Module, nn.Module], ...], side: int) -> Iterator[Tensor]:
    for pair in pairs:
        yield from pair[side].buffers()
