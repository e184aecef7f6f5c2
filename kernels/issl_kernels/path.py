"""Which implementation of an operation runs: the reference, the chunked torch path, or the Triton kernels.

``auto``, the default, takes Triton on an NVIDIA GPU and the chunked path elsewhere, and logs its choice once per
process. The environment variable ``ISSL_KERNELS`` (auto, reference, chunked or triton) comes before
``set_kernel_path``, so that a finished recipe can be run on another path to see whether a difference lies there. A path
asked for by name that cannot run is an error.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PATHS = ("auto", "reference", "chunked", "triton")
ENVIRONMENT_VARIABLE = "ISSL_KERNELS"
LOWEST_CAPABILITY = (8, 0)
"""Compute capability (Ampere) from which on the kernels are compiled and checked."""

HAS_TRITON = importlib.util.find_spec("triton") is not None

_log = logging.getLogger("issl_kernels")


class _State:
    """The path that this process asked for, and the choices that were logged."""

    requested: str = "auto"
    announced: set[tuple[str, str]]

    def __init__(self) -> None:
        self.announced = set()


_state = _State()


def check_path(name: str, path: str) -> str:
    """``path``, if it is one; ``name`` is what the error calls it. Raises ValueError."""
    if path not in PATHS:
        raise ValueError(f"{name} is {path!r}; it must be one of {', '.join(PATHS)}")
    return path


def set_kernel_path(path: str) -> None:
    """Sets the path of all operations in this process. ``ISSL_KERNELS`` comes before it. Raises ValueError."""
    _state.requested = check_path("the kernels' path", path)


def requested_path() -> str:
    """What was asked for: by ``ISSL_KERNELS``, else by ``set_kernel_path``, else auto."""
    path = os.environ.get(ENVIRONMENT_VARIABLE)
    return _state.requested if not path else check_path(ENVIRONMENT_VARIABLE, path)


@contextmanager
def kernel_path(path: str) -> Iterator[None]:
    """The path for the operations called within, in place of what was asked for by any other means."""
    before, variable = _state.requested, os.environ.pop(ENVIRONMENT_VARIABLE, None)
    set_kernel_path(path)
    try:
        yield
    finally:
        _state.requested = before
        if variable is not None:
            os.environ[ENVIRONMENT_VARIABLE] = variable


def triton_obstacle(device: torch.device) -> str | None:
    """Why the Triton kernels cannot run on ``device``; None where they can."""
    if not HAS_TRITON:
        return "triton is not installed (pip install triton)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device.type != "cuda" or torch.version.hip is not None:
        return f"the tensors are on {device.type}, not on an NVIDIA GPU (TRITON_INTERPRET=1 interprets the kernels)"
    capability = torch.cuda.get_device_capability(device)
    if capability < LOWEST_CAPABILITY:
        return f"the GPU has compute capability {capability[0]}.{capability[1]}; 8.0 or newer is needed"
    return None


def check_path_runs_on(device: torch.device) -> None:
    """Raises ValueError where the Triton kernels were asked for by name and cannot run on ``device``."""
    obstacle = triton_obstacle(device) if requested_path() == "triton" else None
    if obstacle is not None:
        raise ValueError(f"the Triton kernels were asked for, but {obstacle}; ask for auto or chunked instead")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def resolved_path(operation: str, device: torch.device, has_triton: bool) -> str:
    """The path ``operation`` takes on ``device``: reference, chunked or triton. torch.compile asks once, in tracing.

    Raises ValueError where Triton is asked for by name and cannot run.
    """
    requested = requested_path()
    if requested in ("reference", "chunked"):
        return requested
    obstacle = triton_obstacle(device) if has_triton else f"{operation} has no Triton kernels in this version"
    if requested == "triton":
        if obstacle is not None:
            raise ValueError(f"the Triton kernels were asked for, but {obstacle}; ask for auto or chunked instead")
        return "triton"
    on_gpu = device.type == "cuda"
    path = "triton" if on_gpu and obstacle is None else "chunked"
    if (operation, path) not in _state.announced:
        _state.announced.add((operation, path))
        because = f" ({obstacle})" if on_gpu and obstacle is not None else ""
        _log.info("kernels: %s takes the %s path on %s%s", operation, path, device.type, because)
    return path
