"""Files of public projects open as the networks that they hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from issl_engine.recipe.load import load_recipe
from issl_engine.views.preprocessing import IMAGENET
from issl_engine.weights.open_encoder import open_encoder
from issl_engine.weights.weights_file import WeightsError

from .conftest import FILES, behind, features, some, torchvision_resnet


@pytest.mark.parametrize("project", FILES)
def test_every_layout_opens_as_the_network_it_was_made_from(project: str, resnet18: nn.Module, tmp_path: Path) -> None:
    layout, lay_out = FILES[project]
    torch.save(lay_out(resnet18.state_dict()), tmp_path / "weights.pth")
    opened = open_encoder(str(tmp_path / "weights.pth"))
    assert opened.layout == layout
    torch.testing.assert_close(features(opened.encoder), features(resnet18), rtol=1e-6, atol=1e-6)


class Expansion(nn.Module):
    """The published expansion, written again: 1x1 to 512, 3x3, 1x1 to dim, plus the repeated input, then ReLU."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 512, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(512)
        self.conv2 = nn.Conv2d(512, 512, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(512)
        self.conv3 = nn.Conv2d(512, dim, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(dim)
        self.repeats = dim // channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn1(self.conv1(x)).clamp(min=0)
        out = self.bn3(self.conv3(self.bn2(self.conv2(out)).clamp(min=0)))
        return (out + torch.cat([x] * self.repeats, dim=1)).clamp(min=0)


def published_dissl(dim: int) -> nn.Module:
    """As the authors' torch.hub entry makes it: the expansion is the first part of ``avgpool``."""
    network = torchvision_resnet("resnet50")
    expansion = Expansion(2048, dim)
    nn.init.uniform_(expansion.bn3.weight, 0.3, 0.7)
    network.avgpool = nn.Sequential(expansion, network.avgpool)  # type: ignore[assignment]
    return network.eval()


@pytest.mark.parametrize("names", ["resizer", "avgpool.0"])
def test_published_dissl_files_open_with_their_expansion(names: str, tmp_path: Path) -> None:
    network = published_dissl(8192)
    state = {name.replace("avgpool.0", names): value for name, value in network.state_dict().items()}
    assert f"{names}.conv2.weight" in state
    torch.save(state, tmp_path / "dissl_resnet50_d8192_e400_m6.torch")
    opened = open_encoder(str(tmp_path / "dissl_resnet50_d8192_e400_m6.torch"))
    assert (opened.layout, opened.config.name, opened.encoder.dim) == ("dissl", "resnet50", 8192)
    torch.testing.assert_close(features(opened.encoder), features(network), rtol=1e-6, atol=1e-6)


def test_the_published_dissl_file_of_2048_dimensions_is_a_plain_resnet(tmp_path: Path) -> None:
    network = torchvision_resnet("resnet50")
    torch.save(network.state_dict(), tmp_path / "dissl_resnet50_dNone_e400_m2.torch")
    opened = open_encoder(str(tmp_path / "dissl_resnet50_dNone_e400_m2.torch"))
    assert (opened.layout, opened.encoder.dim) == ("torchvision", 2048)
    torch.testing.assert_close(features(opened.encoder), features(network), rtol=1e-6, atol=1e-6)


def open_as(project: str, state: dict, tmp_path: Path, options: str = ""):  # type: ignore[no-untyped-def]
    torch.save(FILES[project][1](state), tmp_path / "weights.pth")
    return open_encoder(f"{tmp_path / 'weights.pth'}{options}")


def test_images_are_prepared_as_the_layouts_authors_do(resnet18: nn.Module, tmp_path: Path) -> None:
    state = resnet18.state_dict()
    assert open_as("torchvision", state, tmp_path).preprocessing == IMAGENET
    assert open_as("swav", state, tmp_path).preprocessing.std == (0.228, 0.224, 0.225)
    assert open_as("dino", state, tmp_path).preprocessing.interpolation == "bicubic"


def test_a_timm_files_config_beside_it_says_how_images_are_prepared(resnet18: nn.Module, tmp_path: Path) -> None:
    save_file(dict(resnet18.state_dict()), tmp_path / "model.safetensors")
    settings = {"input_size": [3, 192, 192], "crop_pct": 0.75, "interpolation": "bicubic", "mean": [0.5] * 3}
    record = {"architecture": "resnet18", "pretrained_cfg": settings | {"std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    for reference in (tmp_path, tmp_path / "model.safetensors"):
        images = open_encoder(str(reference)).preprocessing
        assert (images.resize, images.crop, images.interpolation) == (256, 192, "bicubic")
        assert (images.mean, images.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert open_encoder(f"{tmp_path / 'model.safetensors'}?size=96").preprocessing.crop == 96
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"input_size": 3}}))
    with pytest.raises(ValueError, match=r"config\.json: how images are to be prepared cannot be read"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": settings | {"std": [0.25] * 2}}))
    with pytest.raises(WeightsError, match=r"config\.json: how .* cannot be read from it \(std"):
        open_encoder(str(tmp_path))


def test_preprocessing_takes_the_place_of_another_recipes_own() -> None:
    recipe = next(iter(load_recipe("smoke").arms.values()))
    images = replace(IMAGENET, resize=40, crop=36, std=(0.1, 0.2, 0.3), interpolation="bicubic")
    assert recipe.preprocessing != images
    changed = recipe.prepared_as(images)
    assert changed.preprocessing == images
    assert changed.evaluation.batch_size == recipe.evaluation.batch_size
    assert (changed.views.groups, changed.probes) == (recipe.views.groups, recipe.probes)


def small_images_resnet18(padding: int) -> nn.Module:
    network = torchvision_resnet("resnet18")
    network.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
    network.maxpool = nn.Identity()  # type: ignore[assignment]
    return network


def test_solo_learns_cifar_stem_keeps_its_wide_padding_and_its_images(tmp_path: Path) -> None:
    network = small_images_resnet18(padding=2)
    opened = open_as("solo-learn", network.state_dict(), tmp_path)
    torch.testing.assert_close(features(opened.encoder, 32), features(network, 32), rtol=1e-6, atol=1e-6)
    assert (opened.preprocessing.crop, opened.preprocessing.mean) == (32, (0.4914, 0.4822, 0.4465))


def test_a_3x3_stem_is_asked_for_and_then_taken(tmp_path: Path) -> None:
    network = small_images_resnet18(padding=1)
    with pytest.raises(ValueError, match=r"first convolution is 3x3.*FILE\?stem=tiny&size=32"):
        open_as("simclr", network.state_dict(), tmp_path)
    with pytest.raises(ValueError, match="add the size of its images to the name"):
        open_as("simclr", network.state_dict(), tmp_path, "?stem=tiny")
    opened = open_as("simclr", network.state_dict(), tmp_path, "?stem=tiny&size=32")
    torch.testing.assert_close(features(opened.encoder, 32), features(network, 32), rtol=1e-6, atol=1e-6)
    assert (opened.preprocessing.resize, opened.preprocessing.crop, opened.image_size) == (32, 32, 32)


def test_what_is_missing_and_left_over_is_named_with_the_layout(resnet18: nn.Module, tmp_path: Path) -> None:
    state = dict(resnet18.state_dict())
    del state["layer4.1.bn2.weight"], state["bn1.bias"]
    state |= {"layer4.1.bn3.weight": some(512), "surprise": some(1)}
    with pytest.raises(ValueError) as raised:
        open_as("swav", state, tmp_path)
    text = str(raised.value)
    assert "it looks like layout swav with a resnet18 at 'module.'" in text
    assert "bn1.bias, layer4.1.bn2.weight missing" in text
    assert "module.layer4.1.bn3.weight, module.surprise left over" in text


def test_a_file_of_heads_alone_is_reported_as_such(tmp_path: Path) -> None:
    torch.save({"state_dict": {"fc.weight": some(10, 512), "fc.bias": some(10)}}, tmp_path / "linear.pth")
    with pytest.raises(ValueError, match=r"no encoder is in it: its 2 tensors are state_dict\.fc\.weight.*head alone"):
        open_encoder(str(tmp_path / "linear.pth"))


def test_other_resnets_are_refused_by_their_shapes(resnet18: nn.Module, tmp_path: Path) -> None:
    state = resnet18.state_dict() | {"layer1.0.conv1.weight": some(128, 64, 3, 3)}
    with pytest.raises(ValueError, match=r"conv1\.weight is \[128, 64, 3, 3\] instead of \[64, 64, 3, 3\]"):
        open_as("moco", state, tmp_path)


def test_two_networks_side_by_side_give_the_one_that_is_trained(resnet18: nn.Module, tmp_path: Path) -> None:
    """Whatever comes first; the averages hold other numbers."""
    state = resnet18.state_dict()
    for average, own in (("ema.encoder.", "model.encoder."), ("0.momentum_encoder.encoder.", "1.encoder.")):
        content = behind(average, state, scale=0.5) | behind(own, state)
        torch.save({"state_dict": content}, tmp_path / "weights.pth")
        opened = open_encoder(str(tmp_path / "weights.pth"))
        torch.testing.assert_close(features(opened.encoder), features(resnet18), rtol=1e-6, atol=1e-6)


def test_a_prefix_that_no_layout_knows_is_named_and_can_be_given(resnet18: nn.Module, tmp_path: Path) -> None:
    state = resnet18.state_dict()
    content = behind("my.own.network.", state) | behind("my.other.network.", state, scale=0.5)
    torch.save(content | {"my.own.network.fc.weight": some(3, 512)}, tmp_path / "weights.pth")
    sentence = (
        r"no known layout.*at my\.other\.network\., my\.own\.network\.; add the one to take.*FILE\?root=my\.other"
    )
    with pytest.raises(ValueError, match=sentence):
        open_encoder(str(tmp_path / "weights.pth"))
    opened = open_encoder(f"{tmp_path / 'weights.pth'}?root=my.own.network.")
    torch.testing.assert_close(features(opened.encoder), features(resnet18), rtol=1e-6, atol=1e-6)
