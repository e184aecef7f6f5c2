"""ViTs and ResNets to and from timm; skipped where timm is not installed."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from issl_engine.weights.formats.timm import TimmFormat
from issl_engine.weights.open_encoder import open_encoder

from .conftest import behind, features, some, torchvision_resnet


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    from issl_profiling.torchvision_oracle import load_torchvision

    try:
        load_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    return pytest.importorskip("timm", reason="needs timm: pip install 'issl-engine[timm]'")


def vit(timm: ModuleType, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224", num_classes=0, **settings).eval()


def test_dinos_published_vit_opens_and_returns_to_timm(timm: ModuleType, tmp_path: Path) -> None:
    network = vit(timm)
    torch.save(network.state_dict(), tmp_path / "dino_deitsmall16_pretrain.pth")
    opened = open_encoder(str(tmp_path / "dino_deitsmall16_pretrain.pth"))
    assert (opened.config.name, opened.encoder.dim) == ("timm/vit_small_patch16_224", 384)
    torch.testing.assert_close(features(opened.encoder, 224), features(network, 224), rtol=1e-6, atol=1e-6)
    usage = TimmFormat(name="timm").write(opened, tmp_path / "vit.pth", license_name="unknown").usage
    assert "timm.create_model('vit_small_patch16_224', num_classes=0)" in usage
    vit(timm).load_state_dict(torch.load(tmp_path / "vit.pth", weights_only=True), strict=True)
    assert open_encoder(str(tmp_path / "vit.pth")).digest == opened.digest


def test_dinos_full_checkpoint_of_a_vit_gives_the_teacher(timm: ModuleType, tmp_path: Path) -> None:
    network = vit(timm)
    content = {
        "student": behind("module.backbone.", network.state_dict(), scale=0.5),
        "teacher": behind("backbone.", network.state_dict()) | {"head.mlp.0.weight": some(8, 384)},
    }
    torch.save(content, tmp_path / "full.pth")
    opened = open_encoder(str(tmp_path / "full.pth"))
    assert opened.preprocessing.interpolation == "bicubic"
    torch.testing.assert_close(features(opened.encoder, 224), features(network, 224), rtol=1e-6, atol=1e-6)


def test_moco_v3s_vit_keeps_its_twelve_heads_there_and_back(timm: ModuleType, tmp_path: Path) -> None:
    network = vit(timm, num_heads=12)
    state = behind("module.base_encoder.", network.state_dict())
    state |= {"module.base_encoder.head.0.weight": some(8, 384), "module.momentum_encoder.cls_token": some(1, 1, 384)}
    torch.save({"state_dict": state}, tmp_path / "vit-s-300ep.pth.tar")
    opened = open_encoder(str(tmp_path / "vit-s-300ep.pth.tar"))
    assert not torch.allclose(features(vit(timm), 224), features(network, 224), atol=1e-3)
    torch.testing.assert_close(features(opened.encoder, 224), features(network, 224), rtol=1e-6, atol=1e-6)
    usage = TimmFormat(name="timm").write(opened, tmp_path / "vit.pth", license_name="unknown").usage
    assert "num_heads=12" in usage


def test_timms_own_weights_come_with_their_preprocessing(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    create, made = timm.create_model, []

    def without_network(name: str, *, pretrained: bool, **settings: Any) -> torch.nn.Module:
        made.append(create(name, pretrained=False, **settings))
        return made[-1]

    monkeypatch.setattr(timm, "create_model", without_network)
    opened = open_encoder("timm:vit_tiny_patch16_224")
    assert (opened.config.name, opened.layout) == ("timm/vit_tiny_patch16_224", "timm")
    assert (opened.preprocessing.resize, opened.preprocessing.mean) == (248, (0.5, 0.5, 0.5))
    torch.testing.assert_close(features(opened.encoder, 224), features(made[0], 224), rtol=1e-6, atol=1e-6)


def test_timms_errors_are_one_sentence(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise RuntimeError("LocalEntryNotFound: no network\nmore lines")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"timm:resnet18: timm could not fetch the weights \(LocalEntryNotFound"):
        open_encoder("timm:resnet18")
    with pytest.raises(ValueError, match="timm:resnet1 is not a model of timm"):
        open_encoder("timm:resnet1")


def test_resnets_load_strictly_into_timm(timm: ModuleType, tmp_path: Path) -> None:
    network = torchvision_resnet("resnet18")
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    opened = open_encoder(str(tmp_path / "resnet18.pth"))
    TimmFormat(name="timm").write(opened, tmp_path / "timm.pth", license_name="unknown")
    model = timm.create_model("resnet18", num_classes=0)
    model.load_state_dict(torch.load(tmp_path / "timm.pth", weights_only=True), strict=True)
    torch.testing.assert_close(features(model), features(network), rtol=1e-5, atol=1e-5)
