"""The documents are true: what is made from the code is up to date, and what is written by hand names what is there."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import issl_engine
import issl_engine.objectives as objectives
from issl_engine.cli import main
from issl_engine.docs import __main__ as docs_command
from issl_engine.docs.markdown import anchor
from issl_engine.docs.objectives import formula_of, source_of
from issl_engine.docs.parts import DOCUMENTS, PARTS, stale_documents, with_parts
from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.locate import locate
from issl_engine.variants import variants

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "engine" / "issl_engine"
OWN_WORDS = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md")})
"""Documents whose paths in backticks are looked for."""
ALL = sorted({*OWN_WORDS, ROOT / "CHANGELOG.md", ROOT / "profiling/LOG.md", *(ROOT / name for name in DOCUMENTS)})
BASES = (
    *(ROOT, ENGINE, ROOT / "kernels/issl_kernels", ROOT / "profiling/issl_profiling"),
    *(ROOT / "profiling/results", ROOT / "recipes"),
    *sorted((ROOT / "kernels/issl_kernels").glob("*/")),
)
"""Where a path in backticks may start, beside its document's own folder: packages, results, an operation's files."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"[A-Za-z0-9_.*-]+(/[A-Za-z0-9_.*-]+)*/?")
SUFFIXES = (".py", ".md", ".yaml", ".csv", ".png", ".toml", ".cff", ".txt")
NOT_OURS = ("runs/", "RUN/")
"""A path that begins like this is made by a run."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path, language: str) -> list[str]:
    return [block for kind, block in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def test_generated_parts_are_those_of_the_code() -> None:
    stale = [name_of(path) for path in stale_documents(ROOT)]
    assert stale == [], "out of date; run: make docs"


def test_every_part_stands_in_a_document() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    assert [name for name in PARTS if f"<!-- generated: {name} -->" not in text] == []
    others = [path for path in ROOT.rglob("*.md") if "<!-- generated: " in prose(path).replace("`<!-- ", "")]
    assert {name_of(path) for path in others if ".venv" not in path.parts} == set(DOCUMENTS)


def test_a_part_that_was_changed_by_hand_is_put_right() -> None:
    written = (ROOT / "recipes/KEYS.md").read_text(encoding="utf-8")
    line = next(line for line in written.splitlines() if line.startswith("| `decode_threads` "))
    assert "| `2` | whole number ≥ 1 |" in line
    changed = written.replace(line, line.replace("`2`", "`3`"))
    assert changed != written
    assert with_parts(changed, place="KEYS.md") == written


def test_the_command_names_what_is_stale_and_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DOCUMENTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(docs_command, "CHECKOUT", tmp_path)
    assert CliRunner().invoke(docs_command.main, ["--check"]).exit_code == 0
    (tmp_path / "engine/CLI.md").write_text("<!-- generated: command line -->\n<!-- end -->", encoding="utf-8")
    checked = CliRunner().invoke(docs_command.main, ["--check"])
    assert (checked.exit_code, checked.stdout) == (1, "engine/CLI.md\n")
    written = CliRunner().invoke(docs_command.main)
    assert (written.exit_code, written.stdout) == (0, "engine/CLI.md\n")
    assert CliRunner().invoke(docs_command.main).stdout == ""


def test_an_unknown_part_and_a_folder_without_documents_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"mine\.md: no generated part is called 'kyes'; there are command line, "):
        with_parts("<!-- generated: kyes -->\n<!-- end -->", place="mine.md")
    with pytest.raises(Mistake, match="run this in a checkout"):
        stale_documents(tmp_path)


@pytest.mark.parametrize("name", variants(objectives, ObjectiveConfig))
def test_an_objective_cites_its_paper(name: str) -> None:
    assert re.search(r"\(.*\b(19|20)\d\d\b.*arXiv \d{4}\.\d{5}", source_of(variants(objectives, ObjectiveConfig)[name]))


@pytest.mark.parametrize("name", variants(objectives, ObjectiveConfig))
def test_an_objective_states_its_formula(name: str) -> None:
    assert formula_of(variants(objectives, ObjectiveConfig)[name])


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        place, _, heading = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), f"{target}: no such file"
        if heading:
            assert heading in anchors(file), f"{target}: no such heading"


def anchors(path: Path) -> set[str]:
    return {anchor(line.lstrip("#").strip()) for line in prose(path).splitlines() if line.startswith("#")}


@pytest.mark.parametrize("path", OWN_WORDS, ids=name_of)
def test_paths_in_backticks_exist(path: Path) -> None:
    named = re.findall(r"`([^`\n]+)`", prose(path))
    paths = [text for text in named if PATH.fullmatch(text) and ("/" in text or text.endswith(SUFFIXES))]
    missing = [text for text in paths if not text.startswith(NOT_OURS) and not exists(text, path.parent)]
    assert missing == []


def exists(text: str, folder: Path) -> bool:
    """Whether there is such a file, folder or recipe; ``*`` stands for anything."""
    wanted = text.rstrip("/")
    return any(any(base.glob(wanted)) or (base / f"{wanted}.yaml").is_file() for base in (folder, *BASES))


@pytest.mark.parametrize("path", [path for path in ALL if path.name != "LOG.md"], ids=name_of)
def test_commands_that_are_shown_exist(path: Path) -> None:
    shown = [line for block in blocks(path, "console") for line in block.splitlines()]
    shown += re.findall(r"`(issl-engine [^`]+)`", prose(path))
    for line in shown:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["$"]:
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "issl-engine":
                check_command(words[1:])


def check_command(words: list[str]) -> None:
    """That there is such a command, and that it has the options."""
    command: click.Command = main
    context = click.Context(main)
    known = option_names(main)
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{words}: no option {word}"
        elif isinstance(command, click.Group):
            if not word.isalpha() or word.isupper():
                continue  # a placeholder: NAME
            found = command.get_command(context, word)
            assert found is not None, f"{words}: no command {word}"
            command = found
            known |= option_names(command)


def option_names(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 950


def test_the_readmes_tree_is_the_repositorys() -> None:
    (tree,) = [block for block in blocks(ROOT / "README.md", "text") if "├──" in block]
    folders: list[str] = []
    shown: set[Path] = set()
    for line in tree.splitlines():
        entry = re.match(r"((?:│   |    )*)[├└]── (\S+)/ ", line + " ")
        if entry:
            folders[len(entry[1]) // 4 :] = [entry[2]]
            shown.add(ROOT.joinpath(*folders))
    assert [name_of(path) for path in sorted(shown) if not path.is_dir()] == []
    rooms = {path.parent for path in ENGINE.glob("*/__init__.py")}
    assert rooms <= shown, f"not in the tree: {sorted(name_of(path) for path in rooms - shown)}"


def test_the_engines_rooms_are_explained() -> None:
    text = (ROOT / "engine/README.md").read_text(encoding="utf-8")
    table = text.partition("## The rooms")[2].partition("\n## ")[0]
    named = {name for line in table.splitlines() if line.startswith("|") for name in re.findall(r"`([\w.]+)`", line)}
    rooms = {path.parent.name for path in ENGINE.glob("*/__init__.py")}
    files = {path.name for path in ENGINE.glob("*.py") if not path.name.startswith("__")}
    assert rooms | files <= named, f"not in the table: {sorted((rooms | files) - named)}"


def test_the_recipe_that_is_shown_is_one(tmp_path: Path) -> None:
    example, search = blocks(ROOT / "recipes/README.md", "yaml")
    (tmp_path / "mine.yaml").write_text(example, encoding="utf-8")
    assert list(load_recipe(tmp_path / "mine.yaml").arms) == ["dissl", "cissl"]
    shared, _, arms = search.partition("arms:\n")
    before, _, after = locate("smoke").read_text(encoding="utf-8").partition("arms:\n")
    after = after.replace("  dissl:\n    objective: {name: dissl, num_classes: 32}\n", arms)
    (tmp_path / "searched.yaml").write_text(f"{before}{shared}arms:\n{after}", encoding="utf-8")
    searched = load_recipe(tmp_path / "searched.yaml").arms
    assert len(searched["dissl"].search.ranges) == 5
    assert len(searched["simclr"].search.ranges) == 3


def test_the_version_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert citation["version"] == issl_engine.__version__
    assert f'\nversion = "{issl_engine.__version__}"\n' in project
    assert f"## {issl_engine.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
