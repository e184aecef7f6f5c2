"""Finds a recipe or a suite of probes: a file by its path, or a packaged one by its name."""

import importlib.util
import os
from pathlib import Path

from issl_engine.mistakes import Mistake, did_you_mean
from issl_engine.recipe.tree import Finding, Origin

SUFFIX = ".yaml"
SUITES = "suites"
"""The folder below the packaged recipes whose files are suites of probes."""


class RecipeError(Mistake):
    """What is wrong with a recipe: one line for each mistake, all of them at once."""

    def __init__(self, *mistakes: Finding) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


def locate(path_or_name: str | Path) -> Path:
    """The file of a recipe: an existing path or a packaged name (``swav_compare``, ``imagenet/e100``).

    A packaged name may carry ``.yaml`` and, as in a checkout, a leading ``recipes/``. Raises RecipeError.
    """
    return _locate(Path(path_or_name), _recipe_files(), "recipe", "recipes/")


def locate_suite(path_or_name: str | Path) -> Path:
    """The file of a suite: an existing path or a packaged name (``basic``). Raises RecipeError."""
    return _locate(Path(path_or_name), _suite_files(), "suite", f"recipes/{SUITES}/")


def _locate(path: Path, packaged: dict[str, Path], kind: str, folder: str) -> Path:
    if os.path.isfile(path):  # Path.is_file raises for a name that is too long
        return path
    name = path.as_posix().removesuffix(SUFFIX)
    for candidate in (name, name.removeprefix(folder)):
        if candidate in packaged:
            return packaged[candidate]
    origin = Origin(where=str(path))
    if os.path.isdir(path):
        raise RecipeError(Finding(origin=origin, key="", message=f"this is a folder; name a {kind} file"))
    hint = did_you_mean(name.removeprefix(folder), packaged)
    message = f"no such file, and no packaged {kind} has this name{hint or ';'} see 'issl-engine list {kind}s'"
    raise RecipeError(Finding(origin=origin, key="", message=message))


def packaged_recipes() -> dict[str, str]:
    """Every packaged recipe's name → the first comment line of its file, sorted by name."""
    return {name: _title(path) for name, path in _recipe_files().items()}


def packaged_suites() -> dict[str, str]:
    """Every packaged suite's name → the first comment line of its file, sorted by name."""
    return {name: _title(path) for name, path in _suite_files().items()}


def _recipe_files() -> dict[str, Path]:
    return {name: file for name, file in _named_files(recipes_folder()).items() if not name.startswith(f"{SUITES}/")}


def _suite_files() -> dict[str, Path]:
    return _named_files(recipes_folder() / SUITES)


def _named_files(folder: Path) -> dict[str, Path]:
    files = sorted(folder.rglob(f"*{SUFFIX}"))
    return {file.relative_to(folder).as_posix().removesuffix(SUFFIX): file for file in files}


def recipes_folder() -> Path:
    """Where the packaged recipes lie: the data package ``issl_recipes``, or ``recipes/`` of a bare checkout.

    The package's search path is read here, because importlib.resources refuses the placeholder that an
    editable install adds to it.
    """
    spec = importlib.util.find_spec("issl_recipes")
    candidates = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    candidates.append(Path(__file__).parents[3] / "recipes")
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise Mistake(f"the packaged recipes are missing (looked in {', '.join(map(str, candidates))}); reinstall")


def _title(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""
