"""Whether another provider's value is ours: a fast answer to another question is no answer."""

from collections.abc import Sequence

import torch

from issl_kernels.case import Case
from issl_kernels.path import kernel_path
from issl_profiling.kernels.operations import Operation
from issl_profiling.kernels.own_providers import OURS
from issl_profiling.kernels.passes import Tensors
from issl_profiling.kernels.provider import Provider, may_fail

TOLERANCE = 1e-3
"""Of the largest value; in fp32, where a GPU's matrix products may round to TF32."""
DIFFERS, OTHER_LOSS = "differs", "other loss"


def compare_values(
    operation: Operation, case: Case, providers: Sequence[Provider], device: torch.device
) -> dict[str, str]:
    """Provider → ``agrees`` or ``differs``, in fp32 on the case's inputs, or a word on why it was not compared."""
    inputs = case.inputs(torch.float32, device)
    return {
        provider.name: _compare(operation, case, provider, inputs) for provider in providers if provider.name != OURS
    }


def _compare(operation: Operation, case: Case, provider: Provider, inputs: Tensors) -> str:
    if provider.compiled:
        return "eager's"
    if not provider.same_loss:
        return OTHER_LOSS
    try:
        with torch.no_grad():
            with kernel_path("auto"):
                ours = case.call(operation.function, *provider.inputs_for_ours(inputs)).double()
            theirs = provider.call(provider.prepare(inputs)).double()
            return "agrees" if (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max() else DIFFERS
    except Exception as error:
        if not may_fail(provider, error):
            raise
        return "unchecked"
