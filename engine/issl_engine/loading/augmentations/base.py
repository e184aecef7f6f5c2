"""How a graph applies an augmentation, and operators that change some images of a batch only."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from nvidia.dali import fn

from issl_engine.loading.normalisation import Triple
from issl_engine.views.augmentations.base import Transform


@dataclass(frozen=True, kw_only=True)
class ViewGraph:
    """What the operators of one view know beside their own settings.

    ``channels`` of the images, 1 or 3; ``on_gpu``: pixels are there, while the named arrays are always on the host;
    ``mean`` and ``std`` of the channels (pixels as 0 to 1); ``layout`` of the finished view, CHW or HWC.
    """

    channels: int
    on_gpu: bool
    mean: Triple
    std: Triple
    layout: str


@singledispatch
def apply_transform(transform: Transform, view: Any, graph: ViewGraph, **arrays: Any) -> Any:
    """The view after ``transform``; its named arrays are nodes of the graph, or None where they are not needed."""
    name = type(transform).__name__
    raise NotImplementedError(f"no function of loading/augmentations takes {name}; register one in a file there")


def on_some(chosen: Any, operator: Callable[..., Any], view: Any, *arguments: Any) -> Any:
    """``operator(view, *arguments)`` on the images where ``chosen`` (bool, one per image) is true.

    The other images cost nothing, and neither the parting nor the joining copies pixels. Constants with axes cannot be
    used in ``operator``: they have the length of the whole batch. DALI's own ``if`` rewrites the Python code of the
    graph; these are the two operators that it is made of.
    """
    taken, rest = _part(view, chosen)
    changed = operator(taken, *(_part(argument, chosen)[0] for argument in arguments))
    return _join(changed, rest, chosen)


def choose(chosen: Any, view: Any, otherwise: Any) -> Any:
    """``view`` where ``chosen`` (bool, one per image) is true, else ``otherwise``."""
    return _join(_part(view, chosen)[0], _part(otherwise, chosen)[1], chosen)


# DALI's stubs do not know fn._conditional.
def _part(node: Any, chosen: Any) -> Any:
    return fn._conditional.split(node, predicate=chosen, _if_stmt=True)  # type: ignore[attr-defined]


def _join(taken: Any, rest: Any, chosen: Any) -> Any:
    return fn._conditional.merge(taken, rest, predicate=chosen)  # type: ignore[attr-defined]
