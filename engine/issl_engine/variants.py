"""Finds the components of a package: one file per component, and no list to keep in step.

A new objective, source, encoder, optimiser or probe is one new module with a ``Config`` subclass whose ``name`` field
is a ``Literal``; it is offered to recipes by being there.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import Discriminator, Tag

from issl_engine.config import Config

ConfigT = TypeVar("ConfigT", bound=Config)


def variants(package: ModuleType, base: type[ConfigT]) -> dict[str, type[ConfigT]]:
    """Every name that a recipe may give for this kind of component → its Config class, sorted by name.

    A family of names (``timm/<model>``) is offered under its prefix, ``timm/``.
    """
    found: dict[str, type[ConfigT]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__:
                for name in _names(value):
                    found[name] = value
    return dict(sorted(found.items()))


def one_of(package: ModuleType, base: type[Config]) -> Any:
    """The type of a recipe field that holds any component of ``package``, chosen by its ``name`` key."""
    by_name = variants(package, base)
    choices = tuple(Annotated[cls, Tag(name)] for name, cls in by_name.items())
    return Annotated[Union[choices], Discriminator(_tag_of)]  # noqa: UP007 (made at run time)


def _names(cls: type[Config]) -> tuple[str, ...]:
    """The values of the Config's ``name`` Literal, or its ``name_prefix`` for an open family; none for a base class."""
    prefix = getattr(cls, "name_prefix", None)
    if prefix:
        return (prefix,)
    field = cls.model_fields.get("name")
    return tuple(get_args(field.annotation)) if field else ()


def _tag_of(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    return name.split("/")[0] + "/" if "/" in name else name
