"""The optimiser's state by parameter and kind (``exp_avg``, ``momentum_buffer``, ``step``), however ranks share it.

Each rank writes the pieces that it holds, with their places in the whole; reading joins them and cuts them as the
ranks and the ZeRO stage of now want them. No rank sends anything to another.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from issl_engine.training.checkpoints.manifest import CheckpointError
from issl_engine.training.checkpoints.tensor_file import TensorFile

if TYPE_CHECKING:
    from issl_engine.training.deepspeed import Fragment

PLACES = "places"


def optimizer_file(optimizer: torch.optim.Optimizer, fragments: Iterable["Fragment"]) -> TensorFile:
    """Copies of the state of ``fragments``, keys ``<kind>/<parameter>``: a piece is flat, a whole one has the
    parameter's shape, a scalar such as ``step`` is with the piece that begins the parameter.

    ``metadata["places"]`` maps the key of a piece to where it begins in the flattened parameter.
    """
    tensors: dict[str, Tensor] = {}
    places: dict[str, int] = {}
    for fragment in fragments:
        for kind, value in optimizer.state.get(fragment.owner, {}).items():
            if value is None:
                continue
            key = f"{kind}/{fragment.name}"
            value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            if value.ndim == 0 and (fragment.owner.ndim or kind == "step"):
                if fragment.start == 0:
                    tensors[key] = value.detach().to("cpu", copy=True)
                continue
            assert value.numel() == fragment.owner.numel(), f"{kind} of {fragment.name} has a shape of its own"
            whole = fragment.length == fragment.parameter.numel()
            piece = value.detach().reshape(-1)[fragment.offset : fragment.offset + fragment.length]
            if whole:
                piece = piece.view(fragment.parameter.shape)
            tensors[key] = piece.to("cpu", copy=True)
            places[key] = fragment.start
    return TensorFile(tensors=tensors, metadata={PLACES: json.dumps(places)})


def share(fragments: list["Fragment"], *, rank: int, world_size: int) -> list["Fragment"]:
    """Of fragments that every rank holds alike, those that this rank writes: about an equal part of their weights."""
    total = sum(fragment.length for fragment in fragments)
    own, before = [], 0
    for fragment in fragments:
        if before * world_size // total == rank:
            own.append(fragment)
        before += fragment.length
    return own


class SavedOptimizerState:
    """The pieces in the files of all ranks that saved, read where they are asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._open = ExitStack()
        self._pieces: dict[str, list[tuple[int, Any]]] = {}
        self._scalars: dict[str, Any] = {}
        self._kinds: dict[str, set[str]] = {}

    def __enter__(self) -> "SavedOptimizerState":
        for path in self.paths:
            file = self._open.enter_context(safe_open(path, framework="pt", device="cpu"))
            places = json.loads(file.metadata()[PLACES])
            for key in file.keys():  # noqa: SIM118 (a file, not a mapping)
                kind, _, name = key.partition("/")
                self._kinds.setdefault(name, set()).add(kind)
                if key in places:
                    self._pieces.setdefault(key, []).append((places[key], file))
                else:
                    self._scalars[key] = file
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def kinds(self, name: str) -> set[str]:
        """The kinds of state that were saved of a parameter; none of one that was never stepped."""
        return self._kinds.get(name, set())

    def scalar(self, kind: str, name: str) -> Tensor | None:
        """A parameter's scalar of this kind, or None where the kind is no scalar."""
        key = f"{kind}/{name}"
        return self._scalars[key].get_tensor(key) if key in self._scalars else None

    def fill(self, target: Tensor, kind: str, name: str, start: int) -> None:
        """Writes the saved values [start, start + length) of the flattened parameter into ``target`` [length].

        Raises CheckpointError when the files do not hold all of them.
        """
        end, filled = start + len(target), 0
        for place, file in self._pieces[f"{kind}/{name}"]:
            piece = file.get_tensor(f"{kind}/{name}").reshape(-1)
            first, last = max(start, place), min(end, place + len(piece))
            if first < last:
                target[first - start : last - start] = piece[first - place : last - place]
                filled += last - first
        if filled != len(target):
            raise CheckpointError(
                f"{self.paths[0].parent}: of {kind} of {name} {filled} of {len(target)} values are there; "
                "the files of some ranks are missing"
            )


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, fragments: Iterable["Fragment"], saved: SavedOptimizerState
) -> None:
    """Puts the state of ``fragments`` into the optimiser. Raises CheckpointError.

    Under ZeRO parameters of one group share their scalars. Where the saved ones differ (a parameter that was frozen at
    first has made fewer steps without ZeRO) the largest is taken, as ZeRO would have counted.
    """
    by_owner: dict[int, list[Fragment]] = {}
    for fragment in fragments:
        by_owner.setdefault(id(fragment.owner), []).append(fragment)
    content = optimizer.state_dict()
    owners = [owner for group in optimizer.param_groups for owner in group["params"]]
    content["state"] = {
        index: state
        for index, owner in enumerate(owners)
        if (state := _state_of(owner, by_owner.get(id(owner), []), saved))
    }
    optimizer.load_state_dict(content)  # torch's own way of placing it: device, dtype, steps of fused optimisers


def _state_of(owner: Tensor, fragments: list["Fragment"], saved: SavedOptimizerState) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for fragment in fragments:
        for kind in saved.kinds(fragment.name):
            scalar = saved.scalar(kind, fragment.name)
            if scalar is not None:
                state[kind] = torch.maximum(state[kind], scalar) if kind in state else scalar
                continue
            if kind not in state:
                state[kind] = torch.zeros_like(owner, requires_grad=False)
            piece = torch.empty(fragment.length, dtype=owner.dtype)
            saved.fill(piece, kind, fragment.name, fragment.start)
            if fragment.owner is fragment.parameter:
                state[kind].copy_(piece.view(owner.shape))
            else:
                state[kind][fragment.offset : fragment.offset + fragment.length] = piece
    return state
