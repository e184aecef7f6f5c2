"""issl-engine export, inspect-weights, list weights: what a user sees, and users' mistakes."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from issl_engine.cli import main
from issl_engine.weights.open_encoder import open_encoder

RECIPE = """\
name: small
source: {name: shapes, num_train: 40, num_test: 20, num_classes: 4, image_size: 32}
views:
  groups:
    - {count: 2, size: 16, area: [0.3, 1.0]}
  mean: [0.5, 0.5, 0.5]
encoder: {name: small_resnet, width: 4, dim: 16}
objective: {name: simclr}
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 1, global_batch_size: 8, log_every_steps: 1, threads: 1}
evaluation: {resize: 36, crop: 32}
probes:
  - {name: knn}
controls: false
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def complaint(*arguments: str | Path) -> str:
    """The error text; checks what holds for every mistake of a user."""
    result = call(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an arm that was pretrained and probed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(RECIPE)
    done = CliRunner().invoke(main, ["run", str(folder / "small.yaml"), "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return folder / "run" / "simclr" / "seed0"


@pytest.fixture
def public_file(tmp_path: Path) -> Path:
    """A ResNet-18 as MoCo's authors lay it out."""
    from issl_engine.models.encoders.resnet import ResNetConfig

    encoder = ResNetConfig(name="resnet18", stem="imagenet").build(image_size=224)
    state = {f"module.encoder_q.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"state_dict": state | {"module.queue": torch.zeros(4, 4)}}, tmp_path / "moco.pth.tar")
    return tmp_path / "moco.pth.tar"


def features(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))


def test_a_checkpoint_leaves_with_its_card_and_opens_again_as_it_was(arm: Path, tmp_path: Path) -> None:
    result = call("export", arm, "--format", "safetensors", "--out", tmp_path / "out", "--license", "cc-by-4.0")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "out" / name) for name in ("model.safetensors", "README.md")]
    before, after = open_encoder(str(arm)), open_encoder(str(tmp_path / "out"))
    assert (after.digest, after.recipe, after.seed) == (before.digest, before.recipe, 0)
    assert (after.preprocessing.resize, after.preprocessing.mean) == (36, (0.5, 0.5, 0.5))
    torch.testing.assert_close(features(after.encoder), features(before.encoder), rtol=0, atol=0)
    card = (tmp_path / "out" / "README.md").read_text()
    knn = json.loads((arm / "probes.json").read_text())[0]
    for part in (
        "license: cc-by-4.0",
        "| objective | simclr (",
        "| data | shapes (",
        "| epochs | 1 of 1 (step 5) |",
        "| seed | 0 |",
        f"| knn | plain | top1 | {knn['value']:.2f}",
        "test (20 images)",
        before.digest,
    ):
        assert part in card
    assert call("export", tmp_path / "out", "--format", "safetensors", "--out", tmp_path / "again").exit_code == 0
    assert "None are known." in (tmp_path / "again" / "README.md").read_text()


def test_an_earlier_checkpoint_has_no_probes_of_the_last_one(arm: Path, tmp_path: Path) -> None:
    (checkpoint,) = (arm / "checkpoints").glob("step_*")
    copy = tmp_path / "checkpoints" / checkpoint.name
    copy.mkdir(parents=True)
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    (tmp_path / "probes.json").write_bytes((arm / "probes.json").read_bytes())
    assert call("export", copy, "--format", "safetensors", "--out", tmp_path / "out").exit_code == 0
    assert "None were made of this checkpoint." in (tmp_path / "out" / "README.md").read_text()


def test_a_consolidated_file_opens_by_what_it_says_of_itself(arm: Path, tmp_path: Path) -> None:
    expected = open_encoder(str(arm))
    for name, options in (("all.safetensors", []), ("encoder.safetensors", ["--encoder-only"])):
        assert call("checkpoint", "consolidate", arm, "--out", tmp_path / name, *options).exit_code == 0
        opened = open_encoder(str(tmp_path / name))
        assert (opened.digest, opened.recipe) == (expected.digest, expected.recipe)


def test_a_public_file_is_inspected_and_leaves_for_torchvision(public_file: Path, tmp_path: Path) -> None:
    record = json.loads(call("inspect-weights", public_file, "--json").stdout)
    assert (record["layout"], record["prefix"]) == ("moco", "state_dict.module.encoder_q.")
    assert json.loads(record["encoder"]) == {"name": "resnet18", "stem": "imagenet"}
    assert record["heads"] == ["state_dict.module (1 tensors)"]
    text = call("inspect-weights", public_file).stdout
    assert "layout           moco\n" in text
    result = call("export", public_file, "--format", "torchvision", "--out", tmp_path / "out.pth", "--json")
    assert result.exit_code == 0, result.output
    assert "model.fc = torch.nn.Identity()" in json.loads(result.stdout)["usage"]
    assert open_encoder(str(tmp_path / "out.pth")).digest == json.loads(result.stdout)["digest"]


def test_public_weights_are_probed_on_images_prepared_as_they_want_them(arm: Path, public_file: Path) -> None:
    recipe = arm.parents[2] / "small.yaml"
    prepared = []
    for overrides in ((), ("evaluation.crop=24", "views.std=[0.5, 0.5, 0.5]")):
        result = call("probe", f"{public_file}?size=32", *overrides, "--recipe", recipe, "--no-cache", "--json")
        assert result.exit_code == 0, result.output
        prepared.append(json.loads(result.stdout)[0]["preprocessing"])
    assert "shorter side 32 px" in prepared[0]
    assert "mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in prepared[0]
    assert "crop 24 px" in prepared[1]
    assert "mean 0.485, 0.456, 0.406 and std 0.5" in prepared[1]


def test_what_is_known_is_listed() -> None:
    assert "dissl_resnet50_d8192_e400_m6" in json.loads(call("list", "weights", "--json").stdout)
    assert json.loads(call("list", "layouts", "--json").stdout).keys() >= {"swav", "dino", "moco", "vissl", "dissl"}
    assert json.loads(call("list", "formats", "--json").stdout).keys() >= {"torchvision", "timm", "safetensors", "onnx"}


def test_mistakes_are_one_sentence_and_leave_nothing(public_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    (tmp_path / "cut.pth").write_bytes(public_file.read_bytes()[:50_000])
    torch.save({"classifier.weight": torch.zeros(3, 4)}, tmp_path / "head.pth")
    for reference, sentence in (
        (tmp_path / "nowhere.pth", "no such folder or file"),
        (tmp_path / "page.pth", "a web page (HTML or XML), not weights"),
        (tmp_path / "cut.pth", "damaged or cut short"),
        (tmp_path / "head.pth", "a head alone as it seems"),
        (tmp_path, "this is no checkpoint"),
        (f"{public_file}?size=2", "size: must be at least 8, not 2"),
        (f"{public_file}?size=big", "size: must be a whole number, not big"),
        (f"{public_file}?stem=huge", "stem: must be 'small', 'tiny' or 'tiny_padded', not huge"),
        (f"{public_file}?stm=tiny", "did you mean 'stem'?"),
        (f"{public_file}?colour=red", "'colour' is no option of a file of weights"),
        ("torchvision:vgg16", "no such published weights"),
    ):
        text = complaint("export", reference, "--format", "torchvision", "--out", out)
        assert sentence in text
        assert text.count("error:") == 1
        assert not out.exists()
    assert "web page" in complaint("inspect-weights", tmp_path / "page.pth")


def test_nothing_is_overwritten_and_places_must_be_there(public_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    arguments = ("export", public_file, "--format", "torchvision", "--out")
    assert "it is here already" in complaint(*arguments, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"
    assert "there is no folder" in complaint(*arguments, tmp_path / "no" / "out.pth")
    assert "Invalid value for '--format'" in complaint("export", public_file, "--format", "gguf", "--out", "x")
    folder = ("export", public_file, "--format", "safetensors", "--out", tmp_path / "x.safetensors")
    assert "name a folder" in complaint(*folder)
