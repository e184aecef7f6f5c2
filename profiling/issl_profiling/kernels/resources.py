"""Compiles every Triton kernel ahead of time, for GPUs that need not be here, and reads what it takes of a processor.

The operations run on tensors without memory, so their launchers choose sizes and settings as they do in training; each
launch compiles its kernel and stops there.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from issl_engine.mistakes import Mistake
from issl_kernels.case import Case
from issl_kernels.path import HAS_TRITON, kernel_path
from issl_kernels.shared_memory import SHARED_BYTES
from issl_profiling.kernels.operations import Operation, discover_operations
from issl_profiling.results_file import ResultsFile

IMAGES, IMAGES_OF_WIDE_CASES = 512, 64
"""Their number changes no kernel that it does not fall short of a tile of, and the inputs are drawn before their memory
is taken away: fewer where every image has thousands of classes."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a program of one kernel takes."""

    op: str
    case: str
    dtype: str
    capability: int
    kernel: str
    warps: int
    registers: int
    """Per thread."""
    stack_bytes: int
    """Per thread; more than zero means that registers did not suffice."""
    shared_bytes: int
    widest_load_bytes: int
    widest_store_bytes: int
    matrix_instruction: str
    """``wgmma``, ``mma`` or nothing."""


RESOURCES_FILE = ResultsFile(
    columns=(*(field.name for field in fields(Resources)), "triton"), holds="bench resources' lines"
)


def compile_kernels(
    operations: Sequence[Operation] | None = None,
    *,
    capabilities: Sequence[int] = (80, 89, 90),
    dtypes: Sequence[torch.dtype] = (torch.bfloat16,),
) -> list[Resources]:
    """A line for each kernel that a GPU's bench cases launch. Raises Mistake where Triton cannot compile here."""
    if not HAS_TRITON:
        raise Mistake("triton is not installed (pip install triton)")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise Mistake("TRITON_INTERPRET is 1, so Triton compiles nothing: unset it")
    unknown = [capability for capability in capabilities if capability not in SHARED_BYTES]
    if unknown:
        raise Mistake(f"capability {unknown[0]} is not one of {', '.join(map(str, SHARED_BYTES))}")
    found = []
    for operation in operations or list(discover_operations().values()):
        if not operation.has_triton:
            continue
        for capability in capabilities:
            for case in operation.gpu_cases:
                for dtype in dtypes:
                    found += _compile_case(operation, case, dtype, capability)
    if not found:
        raise Mistake("none of these operations has Triton kernels")
    return list(dict.fromkeys(found))


def write_resources(path: Path, lines: Sequence[Resources], made_by: dict[str, Any]) -> None:
    """Writes the file anew: a line for each kernel, with the compiler's version. Raises Mistake, OSError."""
    RESOURCES_FILE.replace(path, [asdict(line) for line in lines], made_by)


def resources_table(lines: Sequence[Resources]) -> str:
    """For the terminal: a line for each kernel."""
    rows = [tuple(field.name.removesuffix("_bytes") for field in fields(Resources))]
    rows += [tuple(str(value) for value in astuple(line)) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _compile_case(operation: Operation, case: Case, dtype: torch.dtype, capability: int) -> list[Resources]:
    batch = "B" if hasattr(case, "B") else "N"
    images = IMAGES_OF_WIDE_CASES if hasattr(case, "C") or hasattr(case, "K") else IMAGES
    small: Case = replace(case, **{batch: images})  # type: ignore[arg-type]
    inputs = [x.to("meta") for x in small.inputs(dtype)]
    leaves = [x.requires_grad_(i < case.differentiable_inputs) for i, x in enumerate(inputs)]
    with _launches_only_compile(capability) as compiled, kernel_path("triton"):
        value = small.call(operation.function, *leaves)
        if case.differentiable_inputs:
            value.backward()  # type: ignore[no-untyped-call]
    label = str(dtype).removeprefix("torch.")
    return [
        Resources(op=operation.name, case=case.name, dtype=label, capability=capability, **_read(kernel))
        for kernel in compiled
    ]


class _NoDevice:
    """Stands in for Triton's driver: a GPU of this capability, of which nothing else is known."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # compiled kernels are remembered by this number

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")


@contextlib.contextmanager
def _launches_only_compile(capability: int) -> Iterator[list[Any]]:
    """Collects what is compiled meanwhile. Custom operations run their launchers on tensors without memory."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    launch = JITFunction.run
    compiled: list[Any] = []

    def compile_only(function: Any, *arguments: Any, grid: Any, warmup: bool, **settings: Any) -> Any:
        kernel = launch(function, *arguments, grid=grid, warmup=True, **settings)
        compiled.append(kernel)
        return kernel

    with contextlib.ExitStack() as stack:
        for module in _triton_modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, torch.library.CustomOpDef):  # type: ignore[attr-defined]
                    stack.enter_context(mock.patch.object(module, name, value._init_fn))
        stack.enter_context(mock.patch.object(JITFunction, "run", compile_only))
        stack.enter_context(mock.patch.object(driver, "_active", _NoDevice(capability)))
        stack.enter_context(mock.patch("issl_kernels.path.triton_obstacle", return_value=None))
        # Autocast knows no device without memory.
        stack.enter_context(mock.patch("torch.autocast", return_value=contextlib.nullcontext()))
        stack.enter_context(mock.patch("torch.is_autocast_enabled", return_value=False))
        yield compiled


def _triton_modules() -> list[ModuleType]:
    return [
        import_module(f"issl_kernels.{operation.name}.triton_ops")
        for operation in discover_operations().values()
        if operation.has_triton
    ]


def _read(kernel: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run(
            [_cuobjdump(), "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    ptx = kernel.asm["ptx"]
    return {
        "kernel": kernel.metadata.name,
        "warps": kernel.metadata.num_warps,
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),
        "shared_bytes": kernel.metadata.shared,
        "widest_load_bytes": _widest(ptx, "ld"),
        "widest_store_bytes": _widest(ptx, "st"),
        "matrix_instruction": "wgmma" if "wgmma.mma_async" in ptx else "mma" if "mma.sync" in ptx else "",
    }


def _cuobjdump() -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not path.exists():
        raise Mistake(f"{path} is missing; it comes with Triton's package for x86-64")
    return str(path)


def _widest(ptx: str, access: str) -> int:
    """Bytes of a thread's widest access to global memory."""
    kinds = re.findall(rf"{access}\.global(?:\.\w+)*?(?:\.v(\d))?\.b(\d+)", ptx)
    return max((int(count or 1) * int(bits) // 8 for count, bits in kinds), default=0)
