"""What computes a case, and what is said of one that does not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_profiling.kernels.timing import Tensors


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One way to compute a case."""

    name: str
    call: Callable[[Tensors], Tensor]
    differentiable_inputs: int
    """Of those that ``prepare`` returns, the first so many get a gradient."""
    prepare: Callable[[Tensors], Tensors] = lambda inputs: inputs
    """From the case's inputs to those of ``call``; not timed."""
    inputs_for_ours: Callable[[Tensors], Tensors] = lambda inputs: inputs
    """From the case's inputs to those on which our value must be this provider's."""
    same_loss: bool = True
    compiled: bool = False
    """Its memory on a CPU and its value are not looked at."""
    other_library: bool = False


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A provider that does not run, or a pass of it, and why."""

    op: str
    case: str
    provider: str
    reason: str

    def __str__(self) -> str:
        return f"{self.provider} on {self.op} {self.case}: {self.reason}"


def may_fail(provider: Provider, error: Exception) -> bool:
    """Our own code may run out of memory or refuse a path; anything else of it is a defect, which must show."""
    expected = isinstance(error, torch.OutOfMemoryError | ValueError)
    return expected or provider.compiled or provider.other_library


def first_line(error: Exception) -> str:
    """A reason in one line; the kind of error too, unless it was ours and meant to be read."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    lines = str(error).splitlines() or [""]
    return lines[0] if type(error) is ValueError else f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
