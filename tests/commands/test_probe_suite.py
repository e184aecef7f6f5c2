"""issl-engine probe --suite: what it prints, and one sentence for each mistake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.weights.open_encoder import OpenedEncoder, weights_digest

RECIPE = """\
name: tiny
source: {name: shapes, num_train: 40, num_test: 20, num_classes: 4, image_size: 16}
views: {groups: [{count: 2, size: 16}]}
encoder: {name: small_resnet, width: 4, dim: 8}
objective: {name: simclr}
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 1, global_batch_size: 8}
evaluation: {resize: 16, crop: 16}
probes: [{name: knn}]
"""


@pytest.fixture(autouse=True)
def opened(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> OpenedEncoder:
    """What every reference opens: an untrained encoder with the recipe above. A test may take the recipe away."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    recipe = load_recipe("tiny.yaml").arms["simclr"]
    torch.manual_seed(0)
    encoder = recipe.encoder.build(image_size=16)
    one = OpenedEncoder(
        encoder=encoder, name="tiny", digest=weights_digest(encoder), recipe=recipe, seed=0, config=recipe.encoder,
        image_size=16, preprocessing=recipe.preprocessing, layout="checkpoint",
    )  # fmt: skip
    monkeypatch.setattr("issl_engine.weights.open_encoder.open_encoder", lambda reference: one)
    return one


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["probe", "weights", *arguments])


def complaint(result: Result) -> str:
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return result.stderr


def write(text: str) -> str:
    Path("mine.yaml").write_text(text)
    return "mine.yaml"


def test_a_suite_is_printed_written_and_not_done_again() -> None:
    first = call("--suite", "basic")
    assert first.exit_code == 0, first.output
    for word in ("linear", "knn", "logistic", "top1", "preprocessing: shorter side 16 px", "grid of knn"):
        assert word in first.stdout
    assert "features computed and kept" in first.stderr
    folder = Path("runs/weights/suite_basic")
    assert f"results: {folder / 'probes.csv'}" in first.stdout
    assert len(json.loads((folder / "probes.json").read_text())) == 3
    again = call("--suite", "basic")
    assert "done before" in again.stderr
    assert again.stdout == first.stdout


def test_without_a_suite_nothing_is_written_but_the_features() -> None:
    result = call("--json")
    assert [record["probe"] for record in json.loads(result.stdout)] == ["knn"]
    assert not Path("runs").exists()
    assert "features from the cache" in call("--json").stderr
    assert "cache" not in call("--json", "--no-cache").stderr


def test_a_suite_of_ones_own_and_changes_to_it(tmp_path: Path) -> None:
    mine = write("name: mine\nprobes: [{name: knn}]\ncorruptions: {kinds: [contrast]}\n")
    result = call("--suite", mine, "suite.corruptions.strengths=[2]", "--out", "there", "--json")
    assert {record["setting"] for record in json.loads(result.stdout)} == {"", "contrast 2", "all corruptions"}
    assert Path("there/probes.csv").is_file()


def test_weights_without_a_recipe_need_one(opened: OpenedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(opened, recipe=None, seed=None)
    monkeypatch.setattr("issl_engine.weights.open_encoder.open_encoder", lambda reference: bare)
    assert "come without a recipe" in (error := complaint(call("--suite", "basic")))
    assert "name one with --recipe" in error
    found = call("--recipe", "tiny.yaml", "--json")
    assert [record["seed"] for record in json.loads(found.stdout)] == [0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--suite", "basicc"], "no packaged suite has this name; did you mean 'basic'? see 'issl-engine list suites'"),
        (["--suite", "."], "this is a folder; name a suite file"),
        (["suite.probes=[]"], "there is no suite to change; name one with --suite"),
        (["--suite", "basic", "probes=[]"], "suite 'basic' has probes of its own; write suite.probes=[]"),
        (["--suite", "basic", "suite.prubes=[]"], "command line: suite.prubes: unknown key; did you mean 'probes'?"),
        (["--suite", "basic", "evaluation.crop=32"], "crop (32) is larger than resize (16)"),
        (["--suite", "transfer", "suite.own_source=maybe"], "own_source: must be true or false"),
        (["--recipe", "nowhere"], "nowhere: no such file, and no packaged recipe has this name"),
        (["--suite", "robustness", "suite.corruptions.strengths=[6]"], "must be at most 5, not 6"),
        (["--suite", "few_labels", "suite.fine_tuning.label_fractions=[1.5]"], "must be at most 1, not 1.5"),
        (["--cache-type", "float8"], "float8"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments: list[str], sentence: str) -> None:
    assert sentence in complaint(call(*arguments))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "mine.yaml:1: the file is empty; a suite is a mapping of keys"),
        ("- linear\n", "a suite is a mapping of keys, not a list"),
        ("name: a\ncorruptions:\n  strenghts: [1]\n", "mine.yaml:3: corruptions.strenghts: unknown key; did you mean"),
        ("name: a\nprobes: [{name: cnn}]\n", "mine.yaml:2: probes.0.name: unknown probe 'cnn'"),
        ("name: a\nsources: [{setting: s, source: {name: nist}}]\n", "unknown source 'nist'"),
        ("name: a\ncorruptions: {kinds: [fog]}\n", "mine.yaml:2: corruptions.kinds.0: must be"),
        ("name: a\nown_source: false\n", "own_source is false and there are no sources"),
        ("name: a b\n", "name: must be text that matches"),
        (
            "name: a\nsources: [{setting: s, source: {name: shapes}}, {setting: s, source: {name: shapes}}]\n",
            "two of them have the setting 's'",
        ),
        (
            "name: a\nsources: [{setting: digits, source: {name: mnist, folder: nowhere}}]\n",
            "source 'digits' of the suite: source.folder: nowhere lacks the IDX file",
        ),
    ],
)
def test_a_mistake_in_a_suite_is_one_sentence_with_its_place(text: str, sentence: str) -> None:
    assert sentence in complaint(call("--suite", write(text)))


def test_suites_are_listed() -> None:
    listed = CliRunner().invoke(main, ["list", "suites"])
    assert "basic" in listed.stdout
    assert "robustness" in listed.stdout
