"""The command line: exit codes, clean stdout, one sentence for a mistake, an example in every help text."""

# ruff: noqa: E501  (whole sentences are compared)

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import COMMANDS, main
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.environment import Check
from issl_engine.recipe.load import load_recipe

SMALL = ["source.num_train=20", "source.num_test=10", "source.image_size=32"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def call_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "issl_engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def all_commands(words: list[str], command: click.Command) -> list[list[str]]:
    inner = command.commands if isinstance(command, click.Group) else {}
    return [words, *(found for name, child in inner.items() for found in all_commands([*words, name], child))]


ALL_COMMANDS = [words for name, lazy in COMMANDS.items() for words in all_commands([name], lazy.load())]


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert f"issl-engine {' '.join(words)}" in result.stdout.split("Example", 1)[1]
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_the_list_of_commands_says_what_each_does() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for name, lazy in COMMANDS.items():
        assert f"  {name} " in result.stdout
        assert lazy.help in result.stdout


def test_help_and_version_load_no_heavy_library() -> None:
    code = (
        "import sys; from issl_engine.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join({'torch', 'pydantic', 'yaml', 'deepspeed', 'nvidia'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version() -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, "issl-engine, version 0.2.0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shwo"],
        ["show"],
        ["show", "smoke", "--nope"],
        ["list"],
        ["list", "planets"],
        ["validate"],
        ["data", "make", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "missing.yaml"], "error: missing.yaml: no such file, and no packaged recipe has this name"),
        (["show", "smoke", "training.epohs=1"], "error: command line: training.epohs: unknown key; did you mean 'epochs'?"),
        (["views", "smoke", "--arm", "swav"], "error: command line: the recipe has no arm 'swav' (its arms: simclr, dissl)"),
        (["validate", "missing"], "error: missing: no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_on_stderr_and_exits_with_1(arguments: list[str], sentence: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_debug_shows_where_a_mistake_was_found() -> None:
    done = call_process("--debug", "show", "missing")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("error", ["ValueError('planted')", "KeyError('planted')", "OSError(28, 'planted')"])
def test_a_defect_shows_its_traceback(error: str) -> None:
    program = (
        "import issl_engine.recipe.locate as locate\nfrom issl_engine.cli import main\n"
        f"def planted(): raise {error}\n"
        "locate.packaged_recipes = planted\nmain(['list', 'recipes'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback")
    assert "in planted" in done.stderr
    assert "error: " not in done.stderr


def test_a_mistake_of_the_operating_system_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("views", "smoke", *SMALL, "--out", str(tmp_path / "file" / "views.png"))
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'file'}: File exists\n"


def test_interruption_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> dict[str, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("issl_engine.recipe.locate.packaged_recipes", interrupted)
    result = call("list", "recipes")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_show_prints_a_recipe_that_loads_again(tmp_path: Path) -> None:
    result = call("show", "smoke", "training.epochs=3")
    assert result.exit_code == 0
    (tmp_path / "again.yaml").write_text(result.stdout)
    assert load_recipe(tmp_path / "again.yaml").arms == load_recipe("smoke", ["training.epochs=3"]).arms


def test_show_json_is_every_arm_resolved() -> None:
    shown = json.loads(call("show", "smoke", "--arm", "dissl", "--json").stdout)
    assert list(shown) == ["dissl"]
    assert shown["dissl"] == load_recipe("smoke").arms["dissl"].model_dump(mode="json")


def test_validate_checks_every_recipe_and_fails_if_one_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nname: y\n")
    result = call("validate", "smoke", str(bad), "swav_compare")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["smoke", "swav_compare"]
    assert f"error: {bad}:2: name: this key is here a second time" in result.stderr
    verdicts = json.loads(call("validate", "smoke", str(bad), "--json").stdout)
    assert [verdict["valid"] for verdict in verdicts] == [True, False]
    assert len(verdicts[1]["errors"]) > 3
    assert call("validate", "smoke").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("recipes", "swav_compare"),
        ("objectives", "dissl"),
        ("encoders", "timm/<model>"),
        ("sources", "shapes"),
        ("probes", "linear"),
        ("optimizers", "adamw"),
    ],
)
def test_list_names_what_a_recipe_may_use(kind: str, name: str) -> None:
    names = json.loads(call("list", kind, "--json").stdout)
    assert all(text.count("(") == text.count(")") for text in names.values()), "a sentence is cut off"
    assert name in names
    assert all(names.values()), "each has a line of its own"
    lines = call("list", kind).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(names)


def test_doctor_says_what_each_part_is_good_for() -> None:
    result = call("doctor")
    assert result.exit_code == 0
    assert "torch" in result.stdout
    record = json.loads(call("doctor", "--json").stdout)
    assert {"torch", "DALI", "DeepSpeed", "GPU", "NCCL"} <= {check["item"] for check in record["checks"]}
    assert record["environment"]["issl_engine"] == "0.2.0"


def test_doctor_fails_when_a_needed_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [Check(item="DALI", found=None, good_for="views", advice="pip install it", needed=True)]
    monkeypatch.setattr("issl_engine.environment.checks", lambda: lost)
    result = call("doctor")
    assert result.exit_code == 1
    assert "MISSING" in result.stdout
    assert "pip install it" in result.stdout


def test_views_writes_a_picture_and_prints_its_path(tmp_path: Path) -> None:
    out = tmp_path / "new" / "crops.png"
    done = call_process("views", "smoke", *SMALL, "--images", "2", "--out", str(out))
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_command_prints_nothing_but_results_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with reserved_stdout():
        print("from Python")
        subprocess.run(["echo", "from a child"], check=True)
    print("result")
    shown = capfd.readouterr()
    assert shown.out == "result\n"
    assert "from Python" in shown.err
    assert "from a child" in shown.err


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m issl_engine show smoke | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("# ")
    assert "Traceback" not in done.stderr
