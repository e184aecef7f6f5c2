"""Registers a function that launches kernels as an operation of torch, which torch.compile takes whole.

The function's annotated signature is the operation's schema and stands nowhere else. Tracing also needs results without
data: a second function makes them, and names only those arguments that it makes them from.

No gradient is registered. The gradient belongs to the ``torch.autograd.Function`` around the operations, since sums
over ranks come between a forward operation and its backward one.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

NAMESPACE = "issl_kernels"

P = ParamSpec("P")
Results = TypeVar("Results", Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor])


def operation(*, results: Callable[..., Results]) -> Callable[[Callable[P, Results]], Callable[P, Results]]:
    """Decorates a function as the operation ``issl_kernels::<its name>``, which changes none of its arguments.

    ``results`` makes empty tensors of the results' shapes, dtypes and strides. Its parameters are some of the
    operation's, by the same names. Raises ValueError where it names another.
    """

    def register(function: Callable[P, Results]) -> Callable[P, Results]:
        take = _taking(list(inspect.signature(results).parameters), inspect.signature(function))
        registered = torch.library.custom_op(f"{NAMESPACE}::{function.__name__}", function, mutates_args=())
        registered.register_fake(lambda *arguments: results(*take(arguments)))
        return cast(Callable[P, Results], registered)

    return register


def gradient_operations(
    name: str, launch: Callable[Concatenate[Results, P], None], *, of: Sequence[str]
) -> tuple[Callable[P, Results], Callable[P, None]]:
    """The operations ``issl_kernels::<name>`` and ``issl_kernels::<name>_``, which make the gradients to the arguments
    that ``of`` names. The first returns them in new, contiguous memory; the second overwrites those arguments, which
    must be contiguous along their last axis.

    ``launch`` writes into its first argument: a tensor, or a tuple with one tensor for each name of ``of``. Its other
    arguments are those of both operations. Raises ValueError where a name of ``of`` is no argument.
    """
    write: Callable[..., None] = launch
    written, *others = inspect.signature(launch).parameters.values()
    arguments_alone = inspect.Signature(others)
    take = _taking(of, arguments_alone)

    def as_annotated(tensors: tuple[Tensor, ...]) -> Any:
        return tensors[0] if written.annotation is Tensor else tensors

    def new_memory(*arguments: Any) -> Any:
        return as_annotated(tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in take(arguments)))

    def in_new_memory(*arguments: Any) -> Any:
        gradients = new_memory(*arguments)
        write(gradients, *arguments)
        return gradients

    def in_own_memory(*arguments: Any) -> None:
        write(as_annotated(take(arguments)), *arguments)

    in_new_memory.__signature__ = arguments_alone.replace(return_annotation=written.annotation)  # type: ignore[attr-defined]
    in_own_memory.__signature__ = arguments_alone.replace(return_annotation=None)  # type: ignore[attr-defined]
    new = torch.library.custom_op(f"{NAMESPACE}::{name}", in_new_memory, mutates_args=())
    new.register_fake(new_memory)
    own = torch.library.custom_op(f"{NAMESPACE}::{name}_", in_own_memory, mutates_args=tuple(of))
    own.register_fake(lambda *arguments: None)
    return cast(Callable[P, Results], new), cast(Callable[P, None], own)


def _taking(names: Sequence[str], signature: inspect.Signature) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Picks the arguments of these names; torch hands an operation all of its arguments by place."""
    known = list(signature.parameters)
    for name in names:
        if name not in known:
            raise ValueError(f"{name} is no argument of the operation, which has {', '.join(known)}")
    places = [known.index(name) for name in names]
    return lambda arguments: tuple(arguments[place] for place in places)
