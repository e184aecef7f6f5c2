"""Peak memory of a call, beyond what was allocated when it began."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from issl_profiling.timing import wait_for

State = TypeVar("State")


class AllocationTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations make while it is on, backward included; for the CPU.

    A storage that an operation is given and that is not yet known was there before: it counts nothing. What an
    operation's own C++ code allocates and frees again is not seen, and neither is compiled code.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bytes: dict[StorageWeakRef, int] = {}
        self.peak = 0

    @property
    def live(self) -> int:
        """Bytes now alive."""
        self._bytes = {
            storage: size
            for storage, size in self._bytes.items()
            if not storage.expired()  # type: ignore[no-untyped-call]
        }
        return sum(self._bytes.values())

    def reset_peak(self) -> None:
        """Forgets the peak so far; what is alive still counts."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._note((args, kwargs), new=False)
        result = func(*args, **kwargs)
        self._note(result, new=True)
        self.peak = max(self.peak, self.live)
        return result

    def _note(self, tree: Any, *, new: bool) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                # A weak reference keeps the storage's address from being used again, so it is a safe key.
                key = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._bytes.setdefault(key, storage.nbytes() if new else 0)


def peak_bytes(prepare: Callable[[], State], run: Callable[[State], object], device: torch.device) -> int:
    """Peak while ``run`` works on what ``prepare`` made, in bytes beyond what there was before ``prepare``."""
    if device.type == "cuda":
        wait_for(device)
        before = torch.cuda.memory_allocated(device)
        state = prepare()
        torch.cuda.reset_peak_memory_stats(device)
        run(state)
        wait_for(device)
        return int(torch.cuda.max_memory_allocated(device)) - int(before)
    tracker = AllocationTracker()
    with tracker:
        state = prepare()
        tracker.reset_peak()
        run(state)
    return tracker.peak
