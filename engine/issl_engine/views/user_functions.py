"""From ``package.module:name`` in a recipe to the function itself."""

import importlib
from collections.abc import Callable
from typing import Any

from issl_engine.mistakes import Mistake


def user_function(path: str, key: str) -> Callable[..., Any]:
    """The function at ``path``. Raises ValueError, naming ``key``, when it cannot be imported or called."""
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
