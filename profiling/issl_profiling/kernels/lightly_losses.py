"""lightly's losses, also where torchvision, which lightly imports, does not load."""

import sys
import types
from importlib import import_module
from types import ModuleType

REGISTRATIONS = ("torchvision._meta_registrations", "torchvision._autograd_registrations")
"""They register the shapes and gradients of torchvision's compiled operators, which a CPU build of torch cannot load
and no loss calls."""


def lightly_losses() -> ModuleType:
    """``lightly.loss``. Raises ImportError with the command that installs it."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass  # lightly's own import tells
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update((name, types.ModuleType(name)) for name in REGISTRATIONS)
    try:
        return import_module("lightly.loss")
    except ImportError as error:
        raise ImportError(f"{error}; install it with: pip install 'issl-engine[peers]'") from error
