"""The teacher whose weights are an exponential moving average of the student's (DINO, BYOL)."""

import copy

import torch
from torch import Tensor, nn


class EmaTeacher(nn.Module):
    """Encoder and projector without gradients, trailing the student's.

    In training mode its batch-norm uses its own batch's statistics, as in DINO and BYOL; its running statistics are
    its own too. Its weights are buffers of training, not parameters: no optimiser sees them.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.projector = copy.deepcopy(projector).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Images [N, 3, H, W] → projections [N, P]."""
        projections: Tensor = self.projector(self.encoder(images_NCHW))
        return projections

    @torch.no_grad()
    def update(self, encoder: nn.Module, projector: nn.Module, momentum: float) -> None:
        """teacher ← momentum · teacher + (1 − momentum) · student, for every weight."""
        for mine, theirs in ((self.encoder, encoder), (self.projector, projector)):
            teacher, student = list(mine.parameters()), list(theirs.parameters())
            torch._foreach_lerp_(teacher, [p.detach() for p in student], 1 - momentum)
