"""GPU tests skip themselves, with a reason, where there is no GPU; Triton kernels are interpreted there. All tests use
one cache, which is not the user's."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU, and torch sees none here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of all tests: what one of them has drawn or unpacked, the others need not make again."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISSL_ENGINE_CACHE", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "of_libraries"))  # onnxruntime and matplotlib write there
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for a test that looks into it or breaks it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ISSL_ENGINE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """``run_ranks(work, *arguments, world_size=2, limit_seconds=120)``: what ``work(ranks, *arguments)`` returned on
    each rank, on CPUs. ``work`` is a function at the top of the test's module."""
    from .rank_harness import run_ranks

    def run(work: Callable[..., Any], *arguments: Any, **settings: Any) -> list[Any]:
        return run_ranks(work, *arguments, folder=tmp_path_factory.mktemp("ranks"), **settings)

    return run


@pytest.fixture(scope="session")
def run_alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``run_alone(work, *arguments, limit_seconds=120)``: what ``work(*arguments)`` returned in a fresh process of one
    thread, which may fork."""
    from .rank_harness import run_alone

    def run(work: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        return run_alone(work, *arguments, folder=tmp_path_factory.mktemp("alone"), **settings)

    return run
