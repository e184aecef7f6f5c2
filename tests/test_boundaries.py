"""Who may import whom. Data flows one way, from sources to reports, and so do imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from issl_engine.cli import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCES = {
    "issl_engine": ROOT / "engine",
    "issl_kernels": ROOT / "kernels",
    "issl_profiling": ROOT / "profiling",
}

ORDER = [
    *(
        "mistakes",
        "config",
        "ranges",
        "variants",
        "whole_file",
        "log_file",
        "cache",
        "environment",
        "random_streams",
        "rank_variables",
        "ranks",
        "layout",
    ),
    *("optim", "sources", "views", "loading", "models", "objectives", "regularizers", "measures", "probing"),
    *("recipe", "training", "weights", "diagnosis", "launch", "report", "theory", "run", "search"),
    *("commands", "cli", "docs", "__main__"),
]
"""Rooms of issl_engine; each may import from itself and from those before it."""

ORDER_IN_SOURCES = [
    *("byte_ranges", "balanced_subset", "base", "formats", "images", "image_files", "shards", "packing", "drawing"),
    *("a source", "recognise"),
]
"""Rooms of issl_engine.sources, in the same way; ``a source`` is any file that is not named: no source imports another.
"""

STRANGERS = {
    *(
        (room, imported)
        for room in ("models", "objectives", "regularizers")
        for imported in ("sources", "views", "loading")
    ),
    ("sources", "optim"),
    ("views", "optim"),
    ("views", "sources"),
    ("loading", "optim"),
    ("models", "optim"),
    ("probing", "objectives"),
    ("recipe", "environment"),
    ("report", "training"),
    ("report", "launch"),
}
"""Pairs (importer, imported) that the order would allow and the design does not."""

ONLY_IN = {
    "nvidia": "issl_engine/loading",
    "deepspeed": "issl_engine/training/deepspeed.py",
}
"""A library → the one file, or the one folder, that imports it."""


def files(package: str) -> list[Path]:
    found = sorted((SOURCES[package] / package).rglob("*.py"))
    assert found, package
    return found


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether at its top; not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in node.body
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module, id(node) in top
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in top


def part(module: str) -> str:
    """``issl_engine.views.config`` → ``data``."""
    return [*module.split("."), ""][1]


def test_kernels_import_torch_and_triton_alone() -> None:
    allowed = {"torch", "triton", "issl_kernels", *sys.stdlib_module_names}
    for path in files("issl_kernels"):
        for module, _ in imports(path):
            assert module.split(".")[0] in allowed, f"{path} imports {module}"


def test_kernels_load_where_the_engines_libraries_are_missing() -> None:
    package = SOURCES["issl_kernels"]
    modules = [
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in files("issl_kernels")
    ]
    missing = ["deepspeed", "nvidia", "yaml", "click", "pydantic", "issl_engine"]
    code = (
        f"import sys, importlib\nsys.modules.update(dict.fromkeys({missing}))\n"
        f"for name in {modules}: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_engine_reaches_profiling_by_the_names_of_commands_alone() -> None:
    imported = {
        str(path.relative_to(ROOT))
        for package in ("issl_engine", "issl_kernels")
        for path in files(package)
        for module, _ in imports(path)
        if module.split(".")[0] == "issl_profiling"
    }
    assert imported == set()
    naming = [path for path in files("issl_engine") if "issl_profiling" in path.read_text(encoding="utf-8")]
    assert naming == [SOURCES["issl_engine"] / "issl_engine" / "cli.py"]
    places = {name: lazy.place for name, lazy in COMMANDS.items() if lazy.place.startswith("issl_profiling")}
    assert places.keys() == {"bench", "plan", "profile", "tune"}
    assert all(place.startswith("issl_profiling.commands.") for place in places.values())
    assert naming[0].read_text(encoding="utf-8").count("issl_profiling") == len(places)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_command_line_says(name: str) -> None:
    assert COMMANDS[name].load().help


def test_imports_follow_the_flow_of_data() -> None:
    for path in files("issl_engine"):
        inside = path.relative_to(SOURCES["issl_engine"] / "issl_engine")
        importer = inside.parts[0].removesuffix(".py")
        if importer == "__init__":
            continue
        assert importer in ORDER, f"{inside}: give this part its place in ORDER"
        for module, _ in imports(path):
            imported = part(module) if module.startswith("issl_engine.") else ""
            if imported not in ORDER:
                continue
            assert ORDER.index(imported) <= ORDER.index(importer), f"{inside} imports {module}, which is downstream"
            assert (importer, imported) not in STRANGERS, f"{inside} imports {module}"


def test_imports_among_sources_go_one_way() -> None:
    room = SOURCES["issl_engine"] / "issl_engine" / "sources"
    for path in sorted(room.rglob("*.py")):
        inside = path.relative_to(room)
        importer = inside.parts[0].removesuffix(".py")
        for module, _ in imports(path):
            parts = module.split(".")
            if parts[:2] != ["issl_engine", "sources"] or len(parts) < 3 or parts[2] == importer:
                continue
            places = [
                ORDER_IN_SOURCES.index(one if one in ORDER_IN_SOURCES else "a source") for one in (parts[2], importer)
            ]
            assert places[0] < places[1], f"sources/{inside} imports {module}, which is downstream"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_heavy_library_is_imported_in_one_place_only(library: str) -> None:
    importers = {
        str(path.relative_to(SOURCES[package]))
        for package in SOURCES
        for path in files(package)
        for module, _ in imports(path)
        if module.split(".")[0] == library
    }
    assert importers
    assert {importer for importer in importers if not Path(importer).is_relative_to(ONLY_IN[library])} == set()


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "core"}
    paths = [path for package in SOURCES for path in files(package)]
    assert [path for path in paths if drawers & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def test_no_top_level_folder_is_a_package() -> None:
    assert list(ROOT.glob("*/__init__.py")) == []
