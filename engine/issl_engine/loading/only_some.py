"""Operators that change some images of a batch only, or run on them only, so that the others cost nothing.

DALI's own ``if`` rewrites the Python code of the graph; these are the two operators that it is made of.
"""

from collections.abc import Callable
from typing import Any

from nvidia.dali import fn


def on_some(chosen: Any, operator: Callable[..., Any], view: Any, *arguments: Any) -> Any:
    """``operator(view, *arguments)`` on the images where ``chosen`` (bool, one an image) is true.

    Neither the parting nor the joining copies pixels. Constants with axes cannot be used in ``operator``: they have
    the length of the whole batch.
    """
    taken, rest = _part(view, chosen)
    changed = operator(taken, *(_part(argument, chosen)[0] for argument in arguments))
    return _join(changed, rest, chosen)


def choose(chosen: Any, view: Any, otherwise: Any) -> Any:
    """``view`` where ``chosen`` (bool, one an image) is true, else ``otherwise``."""
    return _join(_part(view, chosen)[0], _part(otherwise, chosen)[1], chosen)


# DALI's stubs do not know fn._conditional.
def _part(node: Any, chosen: Any) -> Any:
    return fn._conditional.split(node, predicate=chosen, _if_stmt=True)  # type: ignore[attr-defined]


def _join(taken: Any, rest: Any, chosen: Any) -> Any:
    return fn._conditional.merge(taken, rest, predicate=chosen)  # type: ignore[attr-defined]
