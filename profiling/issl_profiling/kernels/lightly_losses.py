"""lightly's losses, also where torchvision, which lightly imports, does not load by itself."""

from contextlib import suppress
from importlib import import_module
from types import ModuleType

from issl_profiling.torchvision_oracle import load_torchvision


def lightly_losses() -> ModuleType:
    """``lightly.loss``. Raises ImportError with the command that installs it."""
    with suppress(ImportError):  # lightly's own import tells
        load_torchvision()
    try:
        return import_module("lightly.loss")
    except ImportError as error:
        raise ImportError(f"{error}; install it with: pip install 'issl-engine[peers]'") from error
