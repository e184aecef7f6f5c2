"""Puts a module's buffers back on the device, as they were before a step, where the step is left out.

Batch-norm's running statistics, queues and centres move in the forward pass, before anyone knows whether its loss is
finite. Buffers of one type are copied as one vector, so that a step costs a handful of launches, not several per
layer.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class GuardedBuffers:
    """``buffers`` are tensors that are written in place only; those of one type must lie on one device."""

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        self._by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in buffers:
            self._by_type.setdefault(buffer.dtype, []).append(buffer)
        self._saved: dict[torch.dtype, Tensor] = {}

    @torch.no_grad()
    def save(self) -> None:
        """Saves the current values."""
        self._saved = {dtype: _joined(buffers) for dtype, buffers in self._by_type.items()}

    @torch.no_grad()
    def restore_where(self, flag: Tensor) -> None:
        """Puts the saved values back if ``flag`` (a scalar on the device) is above 0, without reading it on the
        host."""
        for dtype, buffers in self._by_type.items():
            chosen = torch.where(flag > 0, self._saved[dtype], _joined(buffers))
            parts = torch.split(chosen, [buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view(b.shape) for part, b in zip(parts, buffers, strict=True)])
        self._saved = {}


def _joined(buffers: list[Tensor]) -> Tensor:
    return torch.cat([buffer.reshape(-1) for buffer in buffers])
