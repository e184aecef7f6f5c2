"""Reads a file of weights, whoever wrote it, without running anything that it may contain.

Safetensors, and what torch.save writes (.pth, .pt, .pth.tar, .ckpt, .torch): unpickled by torch's restricted reader,
which knows tensors, plain containers and a few inert types that training scripts leave beside the weights.
"""

import argparse
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from issl_engine.mistakes import Mistake

NUMPY_SCALARS = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
INERT = [argparse.Namespace, *NUMPY_SCALARS]
"""Types that the restricted reader may make too: DINO saves its arguments, others a best accuracy of NumPy's."""

NOT_WEIGHTS = re.compile(r"(optimizer\w*|optim|optimizer_states|lr_schedulers?|scheduler|scaler|amp|callbacks|loops)")
"""Outermost entries of a checkpoint that hold the state of training."""


class WeightsError(Mistake):
    """Weights that cannot be read, used or written: one sentence that names the file and says what to do."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Tensors by name, names of nested containers joined by dots (``state_dict.module.conv1.weight``)."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text that a safetensors file carries beside them."""


def read_weights(path: Path) -> WeightsFile:
    """All tensors of a file, on the CPU. Raises WeightsError."""
    if path.is_dir():
        raise WeightsError(f"{path}: this is a folder; give a file of weights")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such folder or file; give a checkpoint's or an arm's folder, a file of weights, or a name of "
            "'issl-engine list weights'"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: the file cannot be read ({error.strerror or error})") from error
    _refuse_what_is_no_weights(path, start)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    tensors = dict(_tensors(_read_torch(path)))
    if not tensors:
        raise WeightsError(f"{path}: the file holds no tensor; give a file of weights")
    return WeightsFile(path=path, tensors=tensors)


def _refuse_what_is_no_weights(path: Path, start: bytes) -> None:
    if not start:
        raise WeightsError(f"{path}: the file is empty; download it again")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise WeightsError(
            f"{path}: this is a web page (HTML or XML), not weights; a download was answered with an error or a login "
            "page: fetch the file itself"
        )
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: this is a Git LFS pointer, not the weights; fetch the file with: git lfs pull")


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path}: this is no whole safetensors file ({error}); download it again") from error
    return WeightsFile(path=path, tensors=tensors, metadata=metadata)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(INERT):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {_reason(str(error))}") from error
    except Exception as error:  # a damaged file raises nearly anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: this is a TorchScript program, not a file of weights; save its state_dict() with torch.save"
            ) from error
        raise WeightsError(
            f"{path}: the file is damaged or cut short, or was not written by torch.save "
            f"({_first_line(error)}); download it again"
        ) from error


def _reason(message: str) -> str:
    found = re.search(r"(?:GLOBAL|type) (?:<class ')?([\w.]+)", message)
    if found is None or found[1].startswith("__"):
        return "this is no file of weights that torch can read; give a .pth, .pt, .ckpt or .safetensors file"
    return (
        f"beside tensors the file holds a {found[1]}, and to make one would run code that comes with the file; if you "
        "trust it, take the weights out in Python: content = torch.load(FILE, map_location='cpu', weights_only=False), "
        "then torch.save(content[KEY], 'weights.pth') with the key that holds them (often state_dict or model)"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:200]


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name or "tensor", value.detach()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if name or not NOT_WEIGHTS.fullmatch(str(key)):
                yield from _tensors(inner, f"{name}.{key}" if name else str(key))
