"""Operators of the user's own.

Letters: B images of a batch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import field_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import Arrays, Columns, Flags, Floats, Probability, Transform, ViewBatch


class UserOperator(Config):
    """An operator of your own: a function that builds part of the DALI graph."""

    function: str
    """Where it is, as ``package.module:name``. It is called as ``name(view, uniform)`` with two DALI nodes, the crop
    (uint8, HWC) and a number in [0, 1) an image, and returns a crop of the same type, layout and size. All its
    randomness comes from ``uniform``, so that a resumed run sees the same crops."""
    probability: Probability = 1.0
    """Share of the crops that keep its result; it runs on all."""

    @field_validator("function")
    @classmethod
    def _is_a_path(cls, function: str) -> str:
        module, _, name = function.partition(":")
        if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise Mistake(f"{function!r} is not of the form package.module:name; write where the function is")
        return function


@dataclass(frozen=True, kw_only=True)
class UserDraws:
    """``chosen`` [B]: which crops get the operator; ``uniform`` [B]: the number in [0, 1) that it is handed."""

    chosen: Flags
    uniform: Floats


@dataclass(frozen=True)
class UserTransform(Transform):
    """One operator, at its place (``index``) in the recipe's list, by which it takes its random numbers."""

    operator: UserOperator
    index: int

    @property
    def columns(self) -> tuple[Columns, ...]:
        """Whether, the number that the function is handed."""
        return (Columns(purpose=Purpose.OPERATORS, first=2 * self.index, count=2),)

    def draw(self, batch: ViewBatch) -> UserDraws:
        chosen, number = batch.uniforms(*self.columns).T
        # 24 bits: a float32 rounded to nearest could reach 1.
        uniform = (np.floor(number * 2**24) * 2.0**-24).astype(np.float32)
        return UserDraws(chosen=chosen < self.operator.probability, uniform=uniform)

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``number`` float32 [B]: the uniform number, less one where the crop is not chosen."""
        draws = self.draw(batch)
        return {"number": np.where(draws.chosen, draws.uniform, draws.uniform - 1)}

    def legend(self) -> str:
        return f"{self.operator.function} {self.operator.probability:g}"


def user_function(path: str, key: str) -> Callable[..., Any]:
    """The function at ``path``. Raises Mistake, naming ``key``, when it cannot be imported or called."""
    module_name, name = path.split(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise Mistake(
            f"{key}: the module of {path!r} cannot be imported ({type(error).__name__}: {error}); mend the path or the "
            "module, or put its folder on PYTHONPATH"
        ) from None
    function = getattr(module, name, None)
    if function is None:
        raise Mistake(f"{key}: {path!r} does not exist: {module.__file__} has no {name!r}; mend the name")
    if not callable(function):
        raise Mistake(f"{key}: {path!r} is of type {type(function).__name__} and cannot be called; name a function")
    return function  # type: ignore[no-any-return]
