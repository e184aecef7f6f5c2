"""What leaves loads strictly where it is meant to, gives the same features, and comes back."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import issl_engine.weights.formats as formats
from issl_engine.models.encoders.base import EncoderConfig
from issl_engine.models.encoders.resnet import ResNetConfig
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.variants import variants
from issl_engine.views.preprocessing import IMAGENET
from issl_engine.weights.formats.base import Exported, ExportFormat
from issl_engine.weights.formats.onnx import NEEDED
from issl_engine.weights.open_encoder import OpenedEncoder, open_encoder, weights_digest
from issl_engine.weights.weights_file import WeightsError
from issl_engine.whole_file import write_whole

from .conftest import features, shake_norms, torchvision_resnet

SMALL_IMAGES = replace(IMAGENET, resize=40, crop=32, mean=(0.5, 0.4, 0.3), interpolation="bicubic")
RESNET18 = ResNetConfig(name="resnet18", stem="imagenet")
EXPANDED = ResNetConfig(name="resnet18", stem="tiny", dim=1024)
TINY = SmallResNetConfig(width=4, dim=16)


def opened(config: EncoderConfig) -> OpenedEncoder:
    """Random weights, batch-norms as if they had seen images."""
    torch.manual_seed(0)
    encoder = config.build(image_size=32)
    shake_norms(encoder)
    return OpenedEncoder(
        encoder=encoder.eval(), name="mine", digest=weights_digest(encoder), recipe=None, seed=None, config=config,
        image_size=32, preprocessing=SMALL_IMAGES, layout="torchvision",
    )  # fmt: skip


def write(format_name: str, encoder: OpenedEncoder, out: Path) -> Exported:
    kind = variants(formats, ExportFormat)[format_name]
    return kind(name=format_name).write(encoder, out, license_name="mit")


def test_a_format_is_called_as_its_file_is() -> None:
    files = {path.stem for path in Path(formats.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert set(variants(formats, ExportFormat)) == files


def test_torchvision_loads_it_strictly_and_gives_the_same_features(tmp_path: Path) -> None:
    encoder = opened(RESNET18)
    write("torchvision", encoder, tmp_path / "resnet18.pth")
    network = torchvision_resnet("resnet18")
    network.load_state_dict(torch.load(tmp_path / "resnet18.pth", weights_only=True), strict=True)
    torch.testing.assert_close(features(network), features(encoder.encoder), rtol=1e-6, atol=1e-6)
    assert open_encoder(str(tmp_path / "resnet18.pth")).digest == encoder.digest


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (EXPANDED, "a resnet18 with a bottleneck to 1024 dimensions"),
        (TINY, "a small_resnet"),
        (ResNetConfig(name="resnet18", stem="small"), "with a stem for small images"),
        (ResNetConfig(name="resnet18", stem="imagenet", width_multiplier=2), "of 2 times the width"),
    ],
)
def test_what_a_library_has_not_is_said_before_anything_is_written(
    config: EncoderConfig, sentence: str, tmp_path: Path
) -> None:
    encoder = opened(config)
    for name in ("torchvision", "timm"):
        with pytest.raises(ValueError, match=rf"mine: this is .*{sentence}.*which {name} has not"):
            write(name, encoder, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [TINY, EXPANDED], ids=["small_resnet", "expanded"])
def test_the_safetensors_folder_and_its_file_open_again_with_all_that_is_known(
    config: EncoderConfig, tmp_path: Path
) -> None:
    encoder = opened(config)
    write("safetensors", encoder, tmp_path / "out")
    for reference in (tmp_path / "out", tmp_path / "out" / "model.safetensors"):
        again = open_encoder(str(reference))
        assert again.digest == encoder.digest
        assert (again.config, again.image_size, again.preprocessing) == (config, 32, SMALL_IMAGES)
        assert (again.layout, again.recipe) == ("engine", None)
        torch.testing.assert_close(features(again.encoder, 32), features(encoder.encoder, 32), rtol=0, atol=0)


def test_on_a_full_disk_no_half_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from issl_engine.weights.formats import safetensors

    def full(path: Path, content: str | bytes) -> None:
        if path.name == "model.safetensors":
            raise OSError(28, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(safetensors, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        write("safetensors", opened(TINY), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_model_card_says_what_it_is_and_under_which_licence(tmp_path: Path) -> None:
    encoder = opened(TINY)
    write("safetensors", encoder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    for part in ("| representation | 16 dimensions |", encoder.digest, SMALL_IMAGES.describe(), "None are known."):
        assert part in card


def test_torch_exports_program_takes_any_batch_size(tmp_path: Path) -> None:
    encoder = opened(EXPANDED)
    write("torch_export", encoder, tmp_path / "encoder.pt2")
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(images), encoder.encoder(images), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert program(images[:1]).shape == (1, 1024)


MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install 'issl-engine[export]'")


@needs_onnx
def test_onnxruntime_gives_the_same_features_at_any_batch_size(tmp_path: Path) -> None:
    import onnxruntime

    encoder = opened(EXPANDED)
    write("onnx", encoder, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["preprocessing"] == SMALL_IMAGES.describe()
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        (actual,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(actual), encoder.encoder(images), rtol=1e-4, atol=1e-5)


@needs_onnx
def test_a_graph_that_differs_from_torch_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from issl_engine.weights.formats import onnx

    other = opened(TINY)
    with torch.no_grad():
        nn.init.normal_(other.encoder.get_parameter("conv_out.weight"))
    graph = onnx._traced(other)
    monkeypatch.setattr(onnx, "_traced", lambda _: graph)
    with pytest.raises(ValueError, match=r"onnxruntime's features differ from torch's by up to .*nothing was written"):
        write("onnx", opened(TINY), tmp_path / "encoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ValueError, match=r"needs onnxscript;.*pip install 'issl-engine\[export\]'"):
        write("onnx", opened(TINY), tmp_path / "encoder.onnx")


@pytest.mark.parametrize("name", ["onnx", "torch_export"])
def test_an_encoder_that_cannot_be_traced_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("data-dependent control flow\nmore lines")

    monkeypatch.setattr(torch.onnx, "export", fail)
    monkeypatch.setattr(torch.export, "export", fail)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(
        WeightsError, match=r"cannot trace this small_resnet \(data-dependent control flow\); take --for"
    ):
        write(name, opened(TINY), tmp_path / "encoder")
    assert list(tmp_path.iterdir()) == []


def test_more_weights_than_an_onnx_file_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from issl_engine.weights.formats import onnx

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(onnx, "LARGEST_BYTES", 1000)
    with pytest.raises(WeightsError, match=r"its weights take .* GiB, and a \.onnx file holds less than 2"):
        write("onnx", opened(TINY), tmp_path / "encoder.onnx")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"encoder": '{"name": "nope"}'}, "cannot be read \\(.*; another version may have written it"),
        ({"encoder": "{"}, "cannot be read"),
        ({"encoder": '{"name": "timm/nope"}'}, r"cannot be built: encoder timm/nope"),
        ({"image_size": "large"}, "cannot be read"),
        ({"preprocessing": "[]"}, "cannot be read"),
        ({"preprocessing": '{"resize": "x"}'}, r"cannot be read \(resize: must be a whole number, not x\)"),
        ({"recipe": "{}"}, "cannot be read"),
    ],
)
def test_a_file_that_says_something_wrong_of_itself_is_named(
    metadata: dict[str, str], words: str, tmp_path: Path
) -> None:
    write("safetensors", opened(TINY), tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        before = file.metadata()
    save_file(tensors, tmp_path / "changed.safetensors", metadata=before | metadata)
    with pytest.raises(WeightsError, match=f"changed.safetensors: .*{words}"):
        open_encoder(str(tmp_path / "changed.safetensors"))
