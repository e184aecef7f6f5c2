"""Who takes part: our own providers and other libraries', by name; and why one cannot."""

import inspect
from collections.abc import Sequence

import torch

from issl_kernels.case import Case
from issl_kernels.path import triton_obstacle
from issl_profiling.kernels.operations import Operation, chosen
from issl_profiling.kernels.own_providers import COMPILE_MODES, EAGER, IN_PLACE, OURS, OWN_PROVIDERS, own_provider
from issl_profiling.kernels.peer_providers import PEERS
from issl_profiling.kernels.provider import LeftOut, Provider, first_line


def choose_providers(names: Sequence[str], *, gpu: bool) -> list[str]:
    """Names of the providers to run: those asked for, else the device's default. Raises Mistake if unknown.

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
            providers.append(own_provider(name, operation, case))
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
