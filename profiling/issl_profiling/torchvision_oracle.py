"""torchvision, also where its compiled operators do not load, as beside a CPU build of torch."""

import sys
import types
from importlib import import_module
from types import ModuleType

REGISTRATIONS = ("torchvision._meta_registrations", "torchvision._autograd_registrations")
"""They register the shapes and gradients of torchvision's compiled operators, which a CPU build of torch cannot load
and neither transforms nor losses call."""


def load_torchvision() -> ModuleType:
    """``torchvision``, with transforms. Raises ImportError with the command that installs it."""
    try:
        import_module("torchvision")
    except ImportError as error:
        raise ImportError(f"{error}; install it with: pip install 'issl-engine[peers]'") from error
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update((name, types.ModuleType(name)) for name in REGISTRATIONS)
    import_module("torchvision.transforms.v2.functional")
    return import_module("torchvision")
