"""What computes a case, and what is said of one that does not."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_profiling.kernels.passes import Tensors


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
    """A reason in one line; the kind of error too, unless the sentence is ours (the engine's or the kernels')."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    lines = str(error).splitlines() or [""]
    ours = isinstance(error, Mistake) or type(error) is ValueError
    return lines[0] if ours else f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
