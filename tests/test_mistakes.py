"""Only a Mistake is shown without a traceback: nothing of ours raises a bare ValueError for users, or hides one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from issl_engine.mistakes import Mistake, did_you_mean, is_mistake, mistakes_from, sentence_of

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "engine" / "issl_engine"
PACKAGES = (ENGINE, ROOT / "profiling" / "issl_profiling")

MAY_RAISE = {
    "sources/formats/sample.py": "the reader adds file and place, and raises SourceError",
    "sources/formats/tf_example.py": "the reader adds file and record, and raises SourceError",
    "sources/formats/file_bytes.py": "a file object, which raises what io's do",
    "models/synchronised_batch_norm.py": "a module, which raises what torch's batch-norms do",
    "report/answers_file.py": "caught there with the parser's, as a ReportError",
    "search/outcome.py": "caught there with the parser's: the trial is looked at anew",
}
"""File → why it may raise a ValueError. (The kernels are a library of their own, and raise what torch does.)"""

PARSERS = {"int", "float", "load", "loads", "decode", "fromisoformat"}
"""Calls that raise ValueError for text or bytes which they cannot read: a ``try`` around one may catch it."""

MAY_CATCH = {
    "launch/rank_failure.py": "torch's, where a variable of the meeting is wrong",
    "report/thumbnails.py": "Pillow's, of a broken image",
    "sources/images/inspection.py": "Pillow's, of a broken image",
    "sources/packing/packed_sample.py": "Pillow's, of a broken image",
    "sources/formats/array_files.py": "numpy's and h5py's, of a damaged file",
    "sources/formats/tar_samples.py": "label_text's",
    "sources/formats/parquet_samples.py": "label_text's",
    "sources/formats/tfrecord_samples.py": "find_features's",
    "sources/drawing/nuisances.py": "float's, of a table's row",
    "kernels/kernels_csv.py": "float's, of a table's row",
    "commands/data_pack.py": "Pillow's, of a word that is no colour",
    "cli.py": "the kernels', of ISSL_KERNELS",
    "theory/run.py": "the kernels', of a path that the CPU cannot take",
    "training/build.py": "the kernels', of a path that the device cannot take",
    "plan/counts.py": "the kernels', of a path that the CPU cannot take",
}
"""File → whose ValueError it catches, where no parser is called beside it."""


def files() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            yield str(path.relative_to(package)), ast.parse(path.read_text(encoding="utf-8"))


def names_in(node: ast.AST | None) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} if node is not None else set()


def calls_in(nodes: list[ast.stmt]) -> set[str]:
    """What is called, without the object it is called on."""
    calls = [one.func for node in nodes for one in ast.walk(node) if isinstance(one, ast.Call)]
    return {ast.unparse(one).rpartition(".")[2] for one in calls}


def raises_value_error(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Raise) and "ValueError" in names_in(node.exc) for node in ast.walk(tree))


def catches_any_value_error(tree: ast.Module) -> bool:
    """By ``except`` or by a context manager that is given the class, with no parser inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = set().union(*(names_in(handler.type) for handler in node.handlers))
        elif isinstance(node, ast.With):
            caught = set().union(*(names_in(item.context_expr) for item in node.items))
        else:
            continue
        if caught & {"ValueError", "UNDECODABLE"} and not calls_in(node.body) & PARSERS:
            return True
    return False


def test_a_bare_value_error_is_raised_where_a_reason_is_given_alone() -> None:
    assert {path for path, tree in files() if raises_value_error(tree)} == MAY_RAISE.keys()


def test_a_value_error_is_caught_around_parsers_or_where_a_reason_is_given() -> None:
    assert {path for path, tree in files() if catches_any_value_error(tree)} == MAY_CATCH.keys()


@pytest.mark.parametrize(
    ("code", "raises", "catches"),
    [
        ("raise ValueError('x')", True, False),
        ("raise ValueError", True, False),
        ("raise Mistake('x')", False, False),
        ("try:\n    build()\nexcept (OSError, ValueError):\n    pass", False, True),
        ("with contextlib.suppress(ValueError):\n    build()", False, True),
        ("try:\n    json.loads(text)\nexcept ValueError:\n    pass", False, False),
        ("try:\n    build()\nexcept Mistake:\n    pass", False, False),
    ],
)
def test_what_the_scan_sees(code: str, raises: bool, catches: bool) -> None:
    tree = ast.parse(code)
    assert (raises_value_error(tree), catches_any_value_error(tree)) == (raises, catches)


def test_what_counts_as_a_mistake() -> None:
    assert is_mistake(Mistake("mend it"))
    assert is_mistake(OSError(2, "No such file", "/data/x"))
    assert not any(map(is_mistake, (ValueError("x"), KeyError("x"), OSError(28, "No space left on device"))))


def test_sentences() -> None:
    assert sentence_of(Mistake("mend it")) == "mend it"
    assert sentence_of(OSError(2, "No such file", "/data/x")) == "/data/x: No such file"
    assert did_you_mean("simclrr", ["simclr", "swav"]) == "; did you mean 'simclr'?"


def test_a_librarys_sentence_becomes_a_mistake_and_other_errors_stay() -> None:
    with pytest.raises(Mistake, match=r"^wrong path$"), mistakes_from(ValueError):
        raise ValueError("wrong path")
    with pytest.raises(KeyError), mistakes_from(ValueError):
        raise KeyError("x")
