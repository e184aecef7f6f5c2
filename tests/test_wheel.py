"""The wheel holds exactly what the source tree holds, and works from where it is unpacked."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"engine/issl_engine": "issl_engine", "kernels/issl_kernels": "issl_kernels",
           "profiling/issl_profiling": "issl_profiling", "recipes": "issl_recipes"}  # fmt: skip

KINDS = (".py", ".yaml", ".js", ".css", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout and nothing stale gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("engine", "kernels", "profiling", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", out, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_its_tree_is_the_sources_tree(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in KINDS
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {"issl_recipes/smoke.yaml", "issl_engine/report/page/map.js", "issl_engine/report/page/style.css"} <= names
    assert {name for name in names if name.endswith(KINDS)} == expected


def test_nothing_else_is_at_its_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(FOLDERS.values())


def test_it_carries_the_licence_and_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    by_end = {name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
    assert b"The issl-engine developers" in archive.read(by_end["licenses/LICENSE"])
    assert b"issl-engine = issl_engine.cli:main" in archive.read(by_end["entry_points.txt"])


def test_packaged_recipes_are_found_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from issl_engine.recipe.locate import locate; print(locate('smoke'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "issl_recipes" / "smoke.yaml")
