"""The operations that there are to time: found in issl_kernels, never listed here."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import issl_kernels
from issl_engine.mistakes import Mistake
from issl_kernels.case import Case


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation, its definition, and the sizes at which it is timed."""

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    gpu_cases: tuple[Case, ...]
    cpu_cases: tuple[Case, ...]
    has_triton: bool

    @property
    def cases(self) -> tuple[Case, ...]:
        return (*self.gpu_cases, *self.cpu_cases)


def discover_operations() -> dict[str, Operation]:
    """Name → operation, for every folder of issl_kernels whose ``cases`` say at which sizes to time it."""
    found = {}
    for module in pkgutil.iter_modules(issl_kernels.__path__):
        if not module.ispkg:
            continue
        place = f"{issl_kernels.__name__}.{module.name}"
        files = {file.name for file in pkgutil.iter_modules(importlib.import_module(place).__path__)}
        if "cases" not in files:
            continue
        cases = importlib.import_module(f"{place}.cases")
        if not (hasattr(cases, "BENCH_CASES") and hasattr(cases, "CPU_BENCH_CASES")):
            continue
        # The module, not the package's attribute: issl_kernels.info_nce is the function once both are imported.
        found[module.name] = Operation(
            name=module.name,
            function=getattr(importlib.import_module(place), module.name),
            reference=getattr(importlib.import_module(f"{place}.reference"), f"{module.name}_reference"),
            gpu_cases=tuple(cases.BENCH_CASES),
            cpu_cases=tuple(cases.CPU_BENCH_CASES),
            has_triton="triton_ops" in files,
        )
    return found


def chosen(what: str, names: Sequence[str], options: Iterable[str]) -> list[str]:
    """``names`` without repeats, or all options if there are none. Raises Mistake for a name that is no option."""
    options = list(options)
    for name in names:
        if name not in options:
            raise Mistake(f"there is no {what} {name!r}; choose from {', '.join(options)}")
    return list(dict.fromkeys(names)) or options


def choose_operations(names: Sequence[str]) -> list[Operation]:
    """The operations of these names, or all. Raises Mistake for an unknown one."""
    operations = discover_operations()
    return [operations[name] for name in chosen("operation", names, operations)]


def choose_cases(operations: Sequence[Operation], names: Sequence[str], *, gpu: bool) -> list[tuple[Operation, Case]]:
    """Cases of these names, be they meant for a GPU or not; without names, those meant for this device.

    Raises Mistake for a name that none of the operations has.
    """
    if not names:
        return [(op, case) for op in operations for case in (op.gpu_cases if gpu else op.cpu_cases)]
    wanted = chosen("size", names, dict.fromkeys(case.name for op in operations for case in op.cases))
    return [(op, case) for op in operations for case in op.cases if case.name in wanted]


def size_text(case: Case) -> str:
    """The letters of a case: ``V=6 G=2 B=256 C=3000``."""
    letters = [field.name for field in fields(case) if field.name.isupper()]
    return " ".join(f"{letter}={getattr(case, letter)}" for letter in letters)


def size_number(text: str) -> int:
    """Product of the numbers in ``size_text``: what plots have along their axis."""
    product = 1
    for part in text.split():
        product *= int(part.partition("=")[2])
    return product
