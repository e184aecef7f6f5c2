"""The kernels need torch, and nothing of the engine or its libraries."""

import subprocess
import sys
from pathlib import Path

import issl_kernels

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys

STRANGERS = ("deepspeed", "nvidia.dali", "yaml", "click", "pydantic", "rich", "issl_engine", "issl_profiling")

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == stranger or name.startswith(stranger + ".") for stranger in STRANGERS):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refuse())
for stranger in ("deepspeed", "yaml"):
    try:
        importlib.import_module(stranger)
    except ImportError as error:
        assert "not to be imported" in str(error)
    else:
        raise AssertionError(stranger)

import issl_kernels
for module in pkgutil.walk_packages(issl_kernels.__path__, "issl_kernels."):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_every_module_imports_without_the_engines_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env={"PYTHONPATH": str(Path(issl_kernels.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "issl_kernels.info_nce.chunked" in done.stdout


def test_the_public_functions_are_at_the_top() -> None:
    names = {"cross_correlation", "distillation", "info_nce", "sigmoid_contrastive", "sinkhorn", "soft_cross_entropy"}
    assert names <= set(issl_kernels.__all__)
    assert all(callable(getattr(issl_kernels, name)) for name in names)
