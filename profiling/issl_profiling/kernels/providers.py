"""Who computes an operation: ours, eager torch, torch.compile, one of our paths by name, another library."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from issl_kernels.case import Case
from issl_kernels.path import kernel_path, triton_obstacle
from issl_profiling.kernels.operations import Operation, chosen
from issl_profiling.kernels.peers import PEERS
from issl_profiling.kernels.provider import LeftOut, Provider, first_line
from issl_profiling.kernels.timing import Tensors

EAGER = "eager"
OURS = "ours"
IN_PLACE = "ours-in-place"
"""The gradient takes the logits' memory, as it does in training."""
COMPILE_MODES = {"compile": "default", "compile-max": "max-autotune-no-cudagraphs"}
PATHS = ("chunked", "triton")
OWN_PROVIDERS = (OURS, IN_PLACE, EAGER, *COMPILE_MODES, *PATHS)


def choose_providers(names: Sequence[str], *, gpu: bool) -> list[str]:
    """Names of the providers to run: those asked for, else the device's default. Raises ValueError if unknown.

    torch.compile is among the defaults on a GPU only, as on a CPU compiling takes longer than everything else.
    """
    peers = list(dict.fromkeys(peer.name for peer in PEERS))
    known = chosen("provider", names, [*OWN_PROVIDERS, *peers])
    if names:
        return known
    return [OURS, IN_PLACE, EAGER, *(COMPILE_MODES if gpu else ()), *peers]


def make_providers(
    operation: Operation, case: Case, names: Sequence[str], device: torch.device
) -> tuple[list[Provider], list[LeftOut]]:
    """Those of ``names`` that can compute this case here, and why the others cannot.

    A library that has nothing to do with the operation is passed over in silence.
    """
    providers, left_out = [], []
    for name in names:
        if name not in OWN_PROVIDERS or (name == IN_PLACE and not _may_overwrite(operation)):
            continue
        if name == "triton" and (obstacle := _triton_obstacle(operation, device)) is not None:
            left_out.append(LeftOut(op=operation.name, case=case.name, provider=name, reason=obstacle))
        else:
            providers.append(_own_provider(name, operation, case))
    for peer in PEERS:
        if peer.name not in names or peer.operation != operation.name:
            continue
        try:
            providers.append(peer.provider(case, device))
        except Exception as error:  # whatever goes wrong while another library is imported
            left_out.append(LeftOut(op=operation.name, case=case.name, provider=peer.name, reason=first_line(error)))
    return providers, left_out


def _may_overwrite(operation: Operation) -> bool:
    return "overwrite_logits" in inspect.signature(operation.function).parameters


def _triton_obstacle(operation: Operation, device: torch.device) -> str | None:
    return triton_obstacle(device) if operation.has_triton else "has no Triton kernels in this version"


class SameMemory(torch.autograd.Function):
    """A leaf as something computed, in the leaf's memory: what a network hands to a loss, without the network."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _own_provider(name: str, operation: Operation, case: Case) -> Provider:
    if name in COMPILE_MODES:
        # Fixed shapes: what torch.compile does best, and what training has.
        eager: Callable[..., Any] = torch.compile(operation.reference, mode=COMPILE_MODES[name], dynamic=False)
    else:
        eager = operation.reference
    on_path = "auto" if name in (OURS, IN_PLACE) else name

    def in_place(*logits_and_more: Tensor, **settings: Any) -> Any:
        # A leaf may not be overwritten, but here nobody needs it: what is then in its place takes as long to work on.
        logits = (SameMemory.apply(x) if i < case.differentiable_inputs else x for i, x in enumerate(logits_and_more))
        return operation.function(*logits, **settings, overwrite_logits=True)

    def call(inputs: Tensors) -> Tensor:
        if name == EAGER or name in COMPILE_MODES:
            return case.call(eager, *inputs)
        with kernel_path(on_path):
            return case.call(in_place if name == IN_PLACE else operation.function, *inputs)

    return Provider(
        name=name, call=call, differentiable_inputs=case.differentiable_inputs, compiled=name in COMPILE_MODES
    )
