"""Counts what a process brings into torch.distributed's collectives: bytes by kind, by wrapping the calls."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

KINDS = {
    "all_reduce": "all_reduce", "all_gather": "all_gather", "all_gather_into_tensor": "all_gather",
    "reduce_scatter": "reduce_scatter", "reduce_scatter_tensor": "reduce_scatter", "batch_isend_irecv": "ring",
    "broadcast": "broadcast", "reduce": "reduce", "all_to_all_single": "all_to_all",
}  # fmt: skip
"""Function of torch.distributed, through which ours and DeepSpeed's calls go → the kind that a Message has."""


class Traffic:
    """``bytes_of`` kind: of the tensor that each call brings in (of a ring, what it sends)."""

    def __init__(self) -> None:
        self.bytes_of: Counter[str] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While it lasts calls are counted and made."""
        real = {name: getattr(dist, name) for name in KINDS}
        for name, call in real.items():
            setattr(dist, name, self._counted(name, call))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(dist, name, call)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **settings: Any) -> Any:
            self.bytes_of[KINDS[name]] += _payload(name, arguments, settings)
            return call(*arguments, **settings)

        return counted


def _payload(name: str, arguments: tuple[Any, ...], settings: dict[str, Any]) -> int:
    """Bytes that the rank brings in: gathers and scatters have their result first, what goes in second."""
    if name == "batch_isend_irecv":
        return sum(_size(one.tensor) for one in arguments[0] if one.op is dist.isend)
    has_result_first = name in (
        "all_gather", "all_gather_into_tensor", "reduce_scatter", "reduce_scatter_tensor", "all_to_all_single"
    )  # fmt: skip
    given = [*arguments, *settings.values()]
    tensors = [one for one in given if isinstance(one, Tensor | list)]
    taken = tensors[1] if has_result_first else tensors[0]
    return sum(map(_size, taken)) if isinstance(taken, list) else _size(taken)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
