"""issl-engine checkpoint: verify, inspect, consolidate, prune."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.training.checkpoints import digests
from issl_engine.training.checkpoints.encoder import load_encoder

RECIPE = """\
name: small
source: {name: shapes, num_train: 32, num_test: 8, num_classes: 4, image_size: 32}
views:
  groups:
    - {count: 2, size: 16, area: [0.3, 1.0]}
encoder: {name: small_resnet, width: 4, dim: 16}
objective: {name: byol, hidden_dim: 16, projection_dim: 8}
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 1, global_batch_size: 8, log_every_steps: 1, threads: 1}
checkpoint: {every_epochs: 0.25, keep: 3}
evaluation: {resize: 32, crop: 32}
probes: []
controls: false
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["checkpoint", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the checkpoints of steps 2, 3 and 4."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(RECIPE)
    done = CliRunner().invoke(main, ["pretrain", str(folder / "small.yaml"), "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digests, "_digests", {})
    return shutil.copytree(trained, tmp_path / "run")


def checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("byol/seed0/checkpoints/step_*"))


def test_verify_takes_a_checkpoint_an_arm_or_a_run(run: Path) -> None:
    for path, count in ((checkpoints(run)[0], 1), (run / "byol" / "seed0", 3), (run / "byol", 3), (run, 3)):
        result = call("verify", path)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("whole ") == count
    rows = json.loads(call("verify", run, "--json").stdout)
    assert [row["step"] for row in rows] == [2, 3, 4]


def test_verify_names_the_damaged_one_and_exits_with_1(run: Path) -> None:
    content = bytearray((checkpoints(run)[1] / "learner.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoints(run)[1] / "learner.safetensors").write_bytes(content)
    result = call("verify", run)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["state", "whole", "damaged", "whole"]
    assert f"{checkpoints(run)[1]}: learner.safetensors is damaged" in result.stderr
    assert [row["whole"] for row in json.loads(call("verify", run, "--json").stdout)] == [True, False, True]


def test_inspect_says_what_the_newest_holds(run: Path) -> None:
    text = call("inspect", run / "byol" / "seed0").stdout
    for part in ("step          4 (epoch 1, finished)", "small, objective byol, seed 0", "1, ZeRO stage 0", "% top-1"):
        assert part in text
    record = json.loads(call("inspect", checkpoints(run)[0], "--json").stdout)
    assert (record["step"], record["finished"], record["world_size"]) == (2, False, 1)
    assert record["parameters"].keys() == {"encoder", "objective", "teacher"}
    assert record["bytes_by_part"].keys() == {
        "encoder", "teacher_encoder", "learner", "online_probe", "optimizer", "ranks",
    }  # fmt: skip
    sizes = [path.stat().st_size for path in checkpoints(run)[0].glob("*.safetensors")]
    assert sum(record["bytes_by_part"].values()) == sum(sizes)


def test_consolidate_writes_all_weights_by_part(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.safetensors"
    assert call("consolidate", run / "byol" / "seed0", "--out", out).stdout == f"{out}\n"
    tensors = load_file(out)
    assert {name.partition(".")[0] for name in tensors} == {"encoder", "objective", "teacher"}
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["objective"] == "byol"
        assert json.loads(file.metadata()["recipe"])["name"] == "small"
        assert file.metadata()["step"] == "4"


def test_the_encoder_alone_loads_without_the_engine(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder.safetensors"
    call("consolidate", run / "byol" / "seed0", "--out", out, "--encoder-only")
    expected, _, _ = load_encoder(run / "byol" / "seed0")
    recipe = next(iter(load_recipe(str(run / "byol" / "seed0" / "resolved.yaml")).arms.values()))
    encoder = recipe.encoder.build(image_size=16)
    encoder.load_state_dict(load_file(out))
    images = torch.randn(2, 3, 16, 16)
    assert encoder.eval()(images).equal(expected.eval()(images))


def test_consolidate_overwrites_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    result = call("consolidate", run / "byol" / "seed0", "--out", tmp_path / "x")
    assert result.exit_code == 1
    assert "a file is here already; choose another --out" in result.stderr
    assert (tmp_path / "x").read_text() == "mine"


def test_prune_shows_before_it_deletes(run: Path) -> None:
    result = call("prune", run, "--keep", "1")
    assert result.exit_code == 0
    assert [line.rpartition(" ")[0].strip() for line in result.stdout.splitlines()] == ["kept", "would go", "would go"]
    assert "--yes does it" in result.stderr
    assert len(checkpoints(run)) == 3
    record = json.loads(call("prune", run, "--keep", "1", "--every", "0.5", "--yes", "--json").stdout)
    assert [Path(path).name for path in record["deleted"]] == ["step_00000003"]
    assert [path.name for path in checkpoints(run)] == ["step_00000002", "step_00000004"]


def test_prune_never_takes_the_only_whole_one(run: Path) -> None:
    for path in checkpoints(run)[1:]:
        (path / "encoder.safetensors").write_bytes(bytes((path / "encoder.safetensors").stat().st_size))
    assert call("prune", run, "--keep", "1", "--yes").exit_code == 0
    assert checkpoints(run)[0].name == "step_00000002"


def test_a_run_of_another_recipe_is_refused_though_the_newest_is_damaged(run: Path, trained: Path) -> None:
    (checkpoints(run)[-1] / "manifest.json").write_text("{")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("byol/**/*")}
    recipe = trained.parent / "small.yaml"
    result = CliRunner().invoke(main, ["pretrain", str(recipe), "--out", str(run), "optimizer.lr=0.5"])
    assert result.exit_code == 1
    assert "holds a run of another recipe (optimizer.lr is 0.001 there and 0.5 here)" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("byol/**/*")} == before


def test_another_zero_stage_is_the_same_run(run: Path, trained: Path) -> None:
    recipe = trained.parent / "small.yaml"
    result = CliRunner().invoke(main, ["pretrain", str(recipe), "--out", str(run), "deepspeed.zero_stage=1"])
    assert result.exit_code == 0, result.output
    assert "already trained" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify", "nowhere"], "nowhere: no such folder"),
        (["inspect", "nowhere"], "nowhere: no such folder"),
        (["consolidate", "nowhere", "--out", "x"], "nowhere: no such folder"),
        (["prune", "nowhere", "--keep", "1"], "nowhere: no such folder"),
        (["verify", "."], ".: no checkpoint is here"),
        (["prune", ".", "--keep", "1"], ".: no checkpoint is here"),
        (["inspect", "."], ".: this is no checkpoint"),
        (["prune", ".", "--keep", "0"], "--keep"),
        (["prune", ".", "--keep", "1", "--yes", "--dry-run"], "contradict each other"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_folder_for_the_output_that_is_not_there_is_named(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "missing" / "x.safetensors"
    result = call("consolidate", run / "byol" / "seed0", "--out", out)
    assert result.exit_code == 1
    assert f"{out}: the file could not be written (No such file or directory)" in result.stderr
