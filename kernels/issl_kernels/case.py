"""What a case of an operation offers to tests and to profiling: inputs, the call, and the least work it can cost."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class Work(NamedTuple):
    """The least that one pass must do; divide by a device's ceilings for the floor of its time."""

    flops: float
    """Of matrix products; a multiply-add counts as two."""
    bytes: float
    """Read and written in main memory."""
    exponentials: float


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One size and setting of an operation."""

    name: str
    differentiable_inputs: ClassVar[int]
    """How many of the inputs, from the first, take a gradient."""

    @abstractmethod
    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Random tensor arguments, drawn on the CPU in fp64, so the same everywhere up to their dtype."""

    @abstractmethod
    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The operation, or its reference, with this case's settings; its loss alone where it returns more."""

    @abstractmethod
    def forward_work(self, element_bytes: int) -> Work:
        """For inputs of ``element_bytes`` per element (2 for bf16)."""

    @abstractmethod
    def backward_work(self, element_bytes: int) -> Work:
        """For the same inputs; nothing for an operation without gradients."""


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Normal numbers in fp64 on the CPU."""
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
