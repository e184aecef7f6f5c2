"""Users' mistakes: one clear sentence each, exit code 1 or 2, no traceback, nothing lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from issl_engine.cli import main

RECIPE = """\
name: bad
source: {name: shapes, num_train: 40, num_test: 20, num_classes: 4}
views:
  groups:
    - {count: 2, size: 16, area: [0.3, 1.0]}
encoder: {name: small_resnet, width: 4, dim: 16}
objective:
  name: simclr
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 2, global_batch_size: 8, log_every_steps: 1, threads: 1}
evaluation: {resize: 32, crop: 32}
probes:
  - {name: knn}
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def complaint(result: Result) -> str:
    """The error text; checks what holds for every mistake of a user."""
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result.stderr


def write(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "bad.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("objective.temprature=0.1", "objective.temprature: unknown key; did you mean 'temperature'?"),
        ("objective.temperature=-0.1", "objective.temperature: must be greater than 0, not -0.1"),
        ("objective.temperature=hot", "objective.temperature: must be a number"),
        ("objective.name=simclrr", "unknown objective 'simclrr'; did you mean 'simclr'?"),
        ("encoder.name=resnet99", "unknown encoder 'resnet99'"),
        ("source.name=imagenette", "unknown source 'imagenette'"),
        ("training.epochs=0", "training.epochs: must be greater than 0"),
        ("training.epochs=many", "training.epochs: must be a number"),
        ("training.global_batch_size=8.5", "training.global_batch_size: must be a whole number"),
        ("training.global_batch_size=64", "larger than the training split"),
        ("training.accumulation_steps=3", "must be a multiple of"),
        ("training.precision=fp8", "training.precision"),
        ("views.groups.0.size=128", "views.groups"),
        ("views.groups.0.area=[0.9,0.1]", "area must be two shares"),
        ("views.groups.0.count=0", "views.groups.0.count: must be"),
        ("views.num_global_views=3", "num_global_views is 3"),
        ("schedule.warmup_epochs=9", "schedule.warmup_epochs"),
        ("evaluation.crop=64", "crop (64) is larger than resize (32)"),
        ("seeds=[1,1]", "seeds must differ"),
        ("probes=[{name: cnn}]", "unknown probe 'cnn'"),
        ("optimizer.lr=0", "optimizer.lr: must be greater than 0"),
        ("deepspeed.zero_stage=3", "deepspeed.zero_stage"),
        ("arms.swav.objective.name=swav", "swav"),
        ("nonsense", "is not an override"),
    ],
)
def test_wrong_value_is_one_sentence_before_anything_runs(override: str, sentence: str, tmp_path: Path) -> None:
    result = call("run", write(tmp_path), override, "--out", tmp_path / "run")
    assert sentence in complaint(result)
    assert not list(tmp_path.glob("run/*/*/checkpoints/*"))


def test_all_mistakes_of_a_file_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = RECIPE.replace("name: simclr", "name: simclr\n  temprature: 1").replace("epochs: 2", "epochs: -2")
    lines = complaint(call("validate", write(tmp_path, text))).splitlines()
    assert any("bad.yaml:9: objective.temprature" in line for line in lines)
    assert any("bad.yaml:11: training.epochs" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("- a\n- b\n", "mapping"),
        ("name: [unclosed\n", "bad.yaml:"),
        ("name: a\nname: b\n", "bad.yaml:2"),
    ],
)
def test_file_that_is_no_recipe(text: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in complaint(call("validate", write(tmp_path, text)))


def test_missing_recipe_names_it_and_suggests(tmp_path: Path) -> None:
    assert "swav_compare" in complaint(call("run", "swav_compar"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pretrain", "{recipe}", "--seed", "-1"], "-1 is not in the range 0<=x<=4294967295"),
        (["views", "{recipe}", "--seed", str(2**32)], "is not in the range 0<=x<=4294967295"),
        (["probe", "{folder}", "--seed", "-1"], "-1 is not in the range"),
        (["diagnose", "{folder}", "--seed", "-1"], "-1 is not in the range"),
        (["data", "make", "shapes", "--folder", "a", "--num-classes", "1"], "--num-classes: must be at least 2, not 1"),
        (["data", "make", "shapes", "--folder", "{recipe}/new"], "the shapes cannot be written"),
        (["inspect-weights", "{folder}/none.pth"], "none.pth: no such folder or file"),
        (["inspect-weights", "{recipe}"], "bad.yaml: this is no file of weights"),
        (["inspect-weights", "{recipe}?size=4"], "size: must be at least 8, not 4"),
        (["inspect-weights", "{recipe}?size=big"], "size: must be a whole number, not big"),
        (["inspect-weights", "{recipe}?stem=tall"], "stem: must be 'small', 'tiny' or 'tiny_padded', not tall"),
        (["export", "{recipe}", "--format", "onnx", "--out", "{folder}"], "it is here already"),
        (["export", "{recipe}", "--format", "onnx", "--out", "{folder}/a/b"], "there is no folder"),
        (["views", "{recipe}", "--out", "{recipe}/a.png"], "bad.yaml"),
        (["theory", "run", "{recipe}"], "missing; add 'experiment'"),
        (
            ["theory", "run", "theory/dimension", "objectives=[{{name: diet}}]", "--out", "{folder}/theory"],
            "objective diet has a class for each training image",
        ),
        (["theory", "requirements", "{recipe}", "--encoder", "{folder}/none.pth"], "none.pth: no such folder or file"),
        (["report", "{folder}"], "this is no run folder"),
        (["serve", "{folder}/none"], "there is no such folder"),
        (["data", "inspect", "{folder}", "seeds=[1]"], "a folder has no keys to override"),
        (["data", "pack", "--verify", "--out", "{folder}"], "index.json: the file is missing"),
        (["slurm", "{recipe}", "--nodes", "1", "--gpus-per-node", "1", "--time", "long"], "--time is 'long'"),
        (["checkpoint", "inspect", "{folder}"], "no checkpoint"),
    ],
)  # fmt: skip
def test_wrong_argument_is_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    recipe = write(tmp_path)
    assert sentence in complaint(call(*(text.format(recipe=recipe, folder=tmp_path) for text in arguments)))


def test_file_nested_too_deeply(tmp_path: Path) -> None:
    assert "bad.yaml:1: lists or mappings are nested too deeply" in complaint(
        call("validate", write(tmp_path, "name: " + "[" * 5000))
    )


@pytest.mark.parametrize(
    "arguments",
    [["run", "{recipe}", "--out", "{folder}/run"], ["theory", "run", "theory/dimension"], ["list", "probes"]],
)
def test_wrong_kernels_variable_is_one_sentence_before_anything_runs(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSL_KERNELS", "fast")
    monkeypatch.chdir(tmp_path)
    result = call(*(text.format(recipe=write(tmp_path), folder=tmp_path) for text in arguments))
    assert complaint(result) == ("error: ISSL_KERNELS is 'fast'; it must be one of auto, reference, chunked, triton\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_kernels_that_this_machine_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSL_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    error = complaint(call("theory", "run", "theory/dimension", "--out", tmp_path / "out"))
    assert error.startswith("error: the Triton kernels were asked for, but ")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here Triton can run")
@pytest.mark.parametrize("command", ["profile", "plan"])
def test_kernels_that_this_machine_has_not_are_refused_by_profiling(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSL_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    error = complaint(call(command, write(tmp_path)))
    assert "the Triton kernels were asked for, but the tensors are on cpu" in error


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"WORLD_SIZE": "two"}, "error: WORLD_SIZE is 'two' in the environment; it must be a whole number"),
        ({"WORLD_SIZE": "0"}, "error: WORLD_SIZE is 0 in the environment; there must be at least one rank"),
        ({"RANK": "first"}, "error: RANK is 'first' in the environment; it must be a whole number"),
        ({"RANK": "2"}, "error: RANK is 2 and WORLD_SIZE is 1: ranks count from 0 to 0"),
        ({"LOCAL_RANK": ""}, "error: LOCAL_RANK is '' in the environment; it must be a whole number"),
        (
            {"WORLD_SIZE": "2"},
            "error: rank 0 of 2 does not know where to meet the others: set MASTER_ADDR and MASTER_P",
        ),
        (
            LAUNCHED | {"MASTER_PORT": "abc"},
            "error: MASTER_PORT is 'abc' in the environment; a port is a number from 1",
        ),
        (LAUNCHED | {"MASTER_PORT": "99999"}, "error: MASTER_PORT is '99999' in the environment; a port is a number"),
    ],
)
def test_wrong_variable_of_a_launcher_is_one_sentence(
    variables: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*LAUNCHED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = complaint(call("profile", write(tmp_path)))
    assert error.splitlines()[-1].startswith(sentence)
    assert error.count("error: ") == 1


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (LAUNCHED | {"MASTER_PORT": "abc"}, ": MASTER_PORT is 'abc' in the environment; a port is a number from 1 to"),
        ({"DS_ACCELERATOR": "gpu"}, "error: DS_ACCELERATOR is 'gpu' in the environment, and training runs on "),
    ],
)
def test_wrong_variable_that_a_process_meets_once(variables: dict[str, str], sentence: str, tmp_path: Path) -> None:
    """A rank ends its process itself; DeepSpeed is imported once."""
    done = subprocess.run(
        [sys.executable, "-m", "issl_engine", "pretrain", write(tmp_path), "--out", tmp_path / "run"],
        env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr
    assert done.stderr.count("error: ") == 1


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISSL_ENGINE_CACHE")
    monkeypatch.setattr(Path, "home", fail_without_home)
    assert "set ISSL_ENGINE_CACHE" in complaint(call("inspect-weights", "swav_resnet50_e100"))


def fail_without_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def image_folder(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 12) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                colour = (20 * index, 120 * number, 10 if split == "train" else 200)
                Image.new("RGB", (32, 32), colour).save(root / split / name / f"{split}{index}.jpg")
    return root


def folder_recipe(tmp_path: Path, root: Path) -> Path:
    start, end = RECIPE.index("source:"), RECIPE.index("views:")
    return write(tmp_path, RECIPE[:start] + f"source: {{name: image_folder, folder: {root}}}\n" + RECIPE[end:])


def test_missing_image_folder(tmp_path: Path) -> None:
    result = call("run", folder_recipe(tmp_path, tmp_path / "nowhere"), "--out", tmp_path / "run")
    assert "nowhere" in complaint(result)


def test_empty_class_is_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    shutil.rmtree(root / "train" / "dog")
    (root / "train" / "dog").mkdir()
    assert "dog" in complaint(call("run", folder_recipe(tmp_path, root), "--out", tmp_path / "run"))


def test_classes_that_differ_between_splits_are_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    (root / "val" / "dog").rename(root / "val" / "wolf")
    assert "wolf" in complaint(call("run", folder_recipe(tmp_path, root), "--out", tmp_path / "run"))


def test_more_corrupt_files_than_allowed_are_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images", count=16)
    for index in range(11):
        (root / "train" / "cat" / f"train{index}.jpg").write_bytes(b"no image")
    error = complaint(call("run", folder_recipe(tmp_path, root), "--out", tmp_path / "run"))
    assert "train" in error
    assert ".jpg" in error


def test_few_corrupt_files_are_named_and_left_out(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    broken = root / "train" / "cat" / "train3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    result = call("run", folder_recipe(tmp_path, root), "--out", tmp_path / "run", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert "train3.jpg" in result.stderr


def test_unwritable_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = complaint(call("run", write(tmp_path), "--out", tmp_path / "file" / "run"))
    assert "cannot be written" in error


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    result = call("run", write(tmp_path), "--out", tmp_path / "run", "training.epochs=1")
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def test_folder_of_another_recipe_is_refused_and_untouched(finished: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    error = complaint(call("run", write(tmp_path), "--out", finished, "training.epochs=1", "optimizer.lr=0.5"))
    assert "optimizer.lr is 0.001 there and 0.5 here" in error
    assert {path: path.read_bytes() for path in finished.rglob("*.safetensors")} == before


def test_resume_never_refuses_a_folder_with_a_run(finished: Path, tmp_path: Path) -> None:
    assert "a run is here already" in complaint(
        call("run", write(tmp_path), "--out", finished, "training.epochs=1", "--resume", "never")
    )


def test_second_run_in_a_busy_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    import fcntl

    with (finished / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        error = complaint(call("run", write(tmp_path), "--out", finished, "training.epochs=1"))
    assert "another run is at work" in error


def test_truncated_checkpoint_is_named_by_probe(finished: Path) -> None:
    (weights,) = finished.glob("simclr/seed0/checkpoints/step_*/encoder.safetensors")
    weights.write_bytes(weights.read_bytes()[:-64])
    assert "encoder.safetensors is damaged" in complaint(call("probe", weights.parent))


def test_probe_of_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    assert "no checkpoint" in complaint(call("probe", tmp_path))
    assert "no such folder" in complaint(call("probe", tmp_path / "nowhere"))


@pytest.mark.parametrize("command", [("probe",), ("diagnose",), ("export", "--format", "safetensors", "--out", "out")])
def test_recipe_of_a_checkpoint_that_another_version_wrote(
    command: tuple[str, ...], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    (path,) = finished.glob("simclr/seed0/checkpoints/step_*/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["recipe"]["encoder"]["groups"] = 3
    path.write_text(json.dumps(manifest))
    name, *options = command
    error = complaint(call(name, path.parent, *options))
    assert error.startswith(f"error: {path}: its recipe is not one of this version of issl-engine (encoder.")
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ["[{", '[{"accuracy": 1}]', "[1]", '{"a": 1}', '[{"value": "high"}]', "3"])
def test_damaged_probe_results_are_named_by_export(content: str, finished: Path, tmp_path: Path) -> None:
    (finished / "simclr" / "seed0" / "probes.json").write_text(content)
    out = tmp_path / "exported"
    error = complaint(call("export", finished / "simclr" / "seed0", "--format", "safetensors", "--out", out))
    assert "probes.json: these are no probe results" in error
    assert not out.exists()


def test_diagnose_of_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    assert "no checkpoint" in complaint(call("diagnose", tmp_path))


def test_report_of_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert str(tmp_path.name) in complaint(call("report", tmp_path))


def test_compare_needs_run_folders(tmp_path: Path) -> None:
    assert complaint(call("compare"))
    assert complaint(call("compare", tmp_path))


def test_unknown_command_exits_with_2() -> None:
    assert call("trian").exit_code == 2


def test_missing_fashion_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    text = RECIPE.replace(
        "{name: shapes, num_train: 40, num_test: 20, num_classes: 4}",
        f"{{name: fashion_mnist, folder: {tmp_path}/none}}",
    )
    assert "issl-engine data fetch fashion-mnist" in complaint(
        call("run", write(tmp_path, text), "--out", tmp_path / "run")
    )


def test_run_is_repeatable_and_a_second_call_only_reports(finished: Path, tmp_path: Path) -> None:
    stamps = {path: os.stat(path).st_mtime_ns for path in finished.rglob("*.safetensors")}
    result = call("run", write(tmp_path), "--out", finished, "training.epochs=1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)
    assert {path: os.stat(path).st_mtime_ns for path in finished.rglob("*.safetensors")} == stamps
