"""The augmentations as DALI operators: one function each, in a file named as the host's in ``views/augmentations``.

A function is found by being here. It takes the settings, the crop and the graph's settings, and as keyword arguments
the named arrays that the host makes: Python refuses a name that is missing or surplus when the graph is built.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
