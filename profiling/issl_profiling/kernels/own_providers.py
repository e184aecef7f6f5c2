"""What computes an operation here: ours, eager torch, torch.compile, one of our paths by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from issl_kernels.case import Case
from issl_kernels.path import kernel_path
from issl_profiling.kernels.operations import Operation
from issl_profiling.kernels.passes import Tensors
from issl_profiling.kernels.provider import Provider

EAGER = "eager"
OURS = "ours"
IN_PLACE = "ours-in-place"
"""The gradient takes the logits' memory, as it does in training."""
COMPILE_MODES = {"compile": "default", "compile-max": "max-autotune-no-cudagraphs"}
PATHS = ("chunked", "triton")
OWN_PROVIDERS = (OURS, IN_PLACE, EAGER, *COMPILE_MODES, *PATHS)


class SameMemory(torch.autograd.Function):
    """A leaf as something computed, in the leaf's memory: what a network hands to a loss, without the network."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def own_provider(name: str, operation: Operation, case: Case) -> Provider:
    """The provider of a name in OWN_PROVIDERS."""
    if name in COMPILE_MODES:
        # Fixed shapes: what torch.compile does best, and what training has.
        eager: Callable[..., Any] = torch.compile(operation.reference, mode=COMPILE_MODES[name], dynamic=False)
    else:
        eager = operation.reference
    on_path = "auto" if name in (OURS, IN_PLACE) else name

    def in_place(*logits_and_more: Tensor, **settings: Any) -> Any:
        # A leaf may not be overwritten, but here nobody needs it: what is then in its place takes as long to work on.
        logits = (
            SameMemory.apply(x) if i < case.differentiable_inputs else x  # type: ignore[no-untyped-call]
            for i, x in enumerate(logits_and_more)
        )
        return operation.function(*logits, **settings, overwrite_logits=True)

    def call(inputs: Tensors) -> Tensor:
        if name == EAGER or name in COMPILE_MODES:
            return case.call(eager, *inputs)
        with kernel_path(on_path):
            return case.call(in_place if name == IN_PLACE else operation.function, *inputs)

    return Provider(
        name=name, call=call, differentiable_inputs=case.differentiable_inputs, compiled=name in COMPILE_MODES
    )
