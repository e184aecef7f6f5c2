"""Protocols by name: what a name stands for in recipes, suites and on the command line, and what results say of it."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import TypeAdapter, ValidationError

from issl_engine.cli import main
from issl_engine.probing.protocols import PROTOCOLS, with_protocol
from issl_engine.recipe.load import load_recipe, load_suite
from issl_engine.recipe.schema import AnyProbe
from issl_engine.recipe.show import render
from issl_engine.recipe.suite import Suite

RECIPE = """\
name: small
source: {name: shapes, num_train: 60, num_test: 20, num_classes: 6, image_size: 16}
views: {groups: [{count: 2, size: 16}]}
encoder: {name: small_resnet, width: 4, dim: 8}
objective: {name: OBJECTIVE}
optimizer: {name: adamw, lr: 1e-2}
training: {epochs: 1, global_batch_size: 10, threads: 1}
evaluation: {resize: 16, crop: 16, network: NETWORK}
probes: PROBES
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def recipe(folder: Path, probes: str, *, objective: str = "simclr", network: str = "student") -> Path:
    path = folder / "small.yaml"
    path.write_text(RECIPE.replace("OBJECTIVE", objective).replace("NETWORK", network).replace("PROBES", probes))
    return path


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_a_whole_probe(name: str) -> None:
    probe = TypeAdapter(AnyProbe).validate_python({"protocol": name})
    assert (probe.name, probe.protocol) == (PROTOCOLS[name].settings["name"], name)
    for key, value in PROTOCOLS[name].settings.items():
        assert getattr(probe, key) == value
    again = TypeAdapter(AnyProbe).validate_python(probe.model_dump(mode="json"))
    assert again == probe
    assert PROTOCOLS[name].source


def test_keys_beside_it_take_the_place_of_its_own() -> None:
    keys = with_protocol({"protocol": "swav", "epochs": 3})
    assert (keys["epochs"], keys["lrs"], keys["normalise"]) == (3, (0.3,), "none")
    assert with_protocol({"name": "knn"}) == {"name": "knn"}


def test_a_recipe_with_protocols_resolves_and_runs_again(tmp_path: Path) -> None:
    (one,) = load_recipe(recipe(tmp_path, "[{protocol: swav, epochs: 3}, {protocol: lightly_knn}]")).arms.values()
    assert [probe.protocol for probe in one.probes] == ["swav", "lightly_knn"]
    (tmp_path / "resolved.yaml").write_text(render(one))
    (again,) = load_recipe(tmp_path / "resolved.yaml").arms.values()
    assert again.probes == one.probes


@pytest.mark.parametrize(
    ("probes", "sentence"),
    [
        ("[{protocol: swaw}]", "unknown protocol 'swaw'; did you mean 'swav'?"),
        ("[{protocol: swav, name: knn}]", "protocol swav is the probe linear_augmented, and name is knn"),
        ("[{protocol: swav, epoch: 3}]", "small.yaml:9: probes.0.epoch: unknown key; did you mean 'epochs'?"),
        ("[{protocol: swav, epochs: 0}]", "probes.0.epochs: must be at least 1, not 0"),
    ],
)
def test_mistakes_are_sentences(probes: str, sentence: str, tmp_path: Path) -> None:
    done = call("validate", recipe(tmp_path, probes))
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.output


def test_a_suite_takes_one_in_the_place_of_probes(tmp_path: Path) -> None:
    suite = Suite.model_validate({"name": "mine", "protocol": "dino_knn"})
    assert suite.probes is not None
    assert [probe.protocol for probe in suite.probes] == ["dino_knn"]
    with pytest.raises(ValidationError, match="protocol and probes are both given"):
        Suite.model_validate({"name": "mine", "protocol": "dino_knn", "probes": [{"name": "knn"}]})
    (tmp_path / "mine.yaml").write_text("{name: mine, protocol: nothing}")
    done = call("probe", tmp_path, "--suite", tmp_path / "mine.yaml")
    assert "unknown protocol 'nothing'" in done.stderr


def test_results_say_which_protocol(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[{protocol: swav, epochs: 1, batch_size: 20}, {name: knn}, {protocol: lightly_knn}]")
    done = call("run", path, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    arm = tmp_path / "run" / "simclr" / "seed0"
    records = json.loads((arm / "probes.json").read_text())
    found = {(record["probe"], record["protocol"], record["metric"]) for record in records}
    assert {("linear_augmented", "swav", "top1"), ("linear_augmented", "swav", "top5")} <= found
    assert {("knn", "", "top1"), ("knn", "lightly_knn", "top1"), ("knn", "lightly_knn", "top5")} <= found
    lines = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    assert {line["protocol"] for line in lines} == {"", "swav", "lightly_knn"}
    probed = call("probe", arm, "--protocol", "lightly_knn", "--json")
    assert probed.exit_code == 0, probed.output
    (top1,) = [one for one in json.loads(probed.stdout) if one["metric"] == "top1"]
    assert top1["value"] == next(one["value"] for one in records if one["protocol"] == "lightly_knn")
    assert "unknown protocol" in call("probe", arm, "--protocol", "lightly-knn").stderr


def test_the_protocol_of_a_teacher_probes_the_teacher_alone(tmp_path: Path) -> None:
    probes = "[{protocol: dino_knn}, {name: nearest_mean}]"
    refused = call("validate", recipe(tmp_path, probes, objective="byol"))
    assert "the protocol dino_knn is of the EMA teacher, and evaluation.network is student" in refused.stderr
    path = recipe(tmp_path, probes, objective="byol", network="both")
    assert call("run", path, "--out", tmp_path / "run").exit_code == 0
    records = json.loads((tmp_path / "run" / "byol" / "seed0" / "probes.json").read_text())
    found = {(record["probe"], record["network"]) for record in records}
    assert found == {("knn", "teacher"), ("nearest_mean", ""), ("nearest_mean", "teacher")}
    one = call("probe", tmp_path / "run" / "byol" / "seed0", "--protocol", "dino_knn", "--json")
    assert {record["network"] for record in json.loads(one.stdout)} == {"teacher"}
    alone = call("validate", recipe(tmp_path, probes, objective="simclr"))
    assert alone.exit_code == 0, alone.output


def test_the_papers_transfer_suite_has_its_nine_sets() -> None:
    suite = load_suite("transfer_paper")
    metrics = {one.setting: one.metric for one in suite.sources}
    assert set(metrics) == {
        "food101", "cifar10", "cifar100", "cars", "aircraft", "dtd", "pets", "caltech101", "flowers",
    }  # fmt: skip
    by_class = {name for name, metric in metrics.items() if metric == "mean_per_class"}
    assert by_class == {"aircraft", "pets", "caltech101", "flowers"}
    assert all(one.optional for one in suite.sources)
    assert suite.protocol == "issl_transfer"


def test_list_names_them_with_their_source() -> None:
    names = json.loads(call("list", "protocols", "--json").stdout)
    assert set(names) == set(PROTOCOLS)
    assert "eval_linear.py" in names["swav"]
