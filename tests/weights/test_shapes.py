"""Architectures are found from the shapes of tensors alone."""

from pathlib import Path

import pytest
import torch

from issl_engine.models.encoders.resnet import ARCHITECTURES, ResNetConfig
from issl_engine.weights.build_encoder import identify
from issl_engine.weights.reference import ReferenceOptions
from issl_engine.weights.resnet_shapes import resnet_of
from issl_engine.weights.vit_shapes import vit_of
from issl_engine.weights.weights_file import WeightsError, WeightsFile


def shapes_of(config: ResNetConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        encoder = config.build(image_size=224)
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("width", "dim"), [(1, None), (2, None), (1, 4096), (1, 128)])
def test_depth_width_and_expansion_are_read_off(name: str, width: int, dim: int | None) -> None:
    config = ResNetConfig(name=name, width_multiplier=width, dim=dim, stem="imagenet")  # type: ignore[arg-type]
    assert resnet_of(shapes_of(config), "file", stem_of_3x3=None) == config


def test_a_bottleneck_as_wide_as_the_backbone_is_read_off() -> None:
    config = ResNetConfig(name="resnet18", dim=512, bottleneck="always", stem="imagenet")
    assert resnet_of(shapes_of(config), "file", stem_of_3x3=None) == config


def test_a_cut_network_is_refused_with_its_depths() -> None:
    shapes = {
        name: shape
        for name, shape in shapes_of(ResNetConfig(name="resnet50", stem="imagenet")).items()
        if not name.startswith(("layer3.5", "layer4"))
    }
    with pytest.raises(ValueError, match=r"file: its stages have \[3, 4, 5, 0\] bottleneck blocks"):
        resnet_of(shapes, "file", stem_of_3x3=None)


def test_a_deep_stem_is_refused() -> None:
    shapes = {"conv1.0.weight": (32, 3, 3, 3), "layer1.0.conv1.weight": (64, 64, 1, 1)}
    with pytest.raises(ValueError, match=r"there is no conv1\.weight.*deep and grayscale stems"):
        resnet_of(shapes, "file", stem_of_3x3=None)


def vit_tensors(width: int, blocks: int, patch: int, rows: int) -> dict[str, torch.Tensor]:
    found = {
        "cls_token": torch.zeros(1, 1, width, device="meta"),
        "pos_embed": torch.zeros(1, rows, width, device="meta"),
        "patch_embed.proj.weight": torch.zeros(width, 3, patch, patch, device="meta"),
        "norm.weight": torch.zeros(width, device="meta"),
    }
    found |= {f"blocks.{block}.norm1.weight": torch.zeros(width, device="meta") for block in range(blocks)}
    return found


def vit_shapes(width: int, blocks: int, patch: int, rows: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in vit_tensors(width, blocks, patch, rows).items()}


@pytest.mark.parametrize(
    ("width", "blocks", "patch", "rows", "name", "size"),
    [
        (384, 12, 16, 197, "timm/vit_small_patch16_224", 224),
        (384, 12, 8, 785, "timm/vit_small_patch8_224", 224),
        (768, 12, 16, 577, "timm/vit_base_patch16_224", 384),
        (1024, 24, 16, 197, "timm/vit_large_patch16_224", 224),
    ],
)
def test_vits_are_named_as_timm_does(width: int, blocks: int, patch: int, rows: int, name: str, size: int) -> None:
    config, image_size = vit_of(vit_shapes(width, blocks, patch, rows), "file", num_heads=None)
    assert (config.name, config.num_heads, image_size) == (name, None, size)


def test_unknown_vits_are_refused_with_what_is_known() -> None:
    with pytest.raises(ValueError, match=r"file: a ViT 512 wide, of 12 blocks.*small \(384 wide, 12 blocks\)"):
        vit_of(vit_shapes(512, 12, 16, 197), "file", num_heads=None)
    with pytest.raises(ValueError, match="one row for it and a square of them"):
        vit_of(vit_shapes(384, 12, 16, 196), "file", num_heads=None)


@pytest.mark.parametrize(
    ("changes", "num_heads", "words"),
    [
        ({"patch_embed.proj.weight": ()}, None, "a ViT 0 wide"),
        ({"patch_embed.proj.weight": (384, 3, 16)}, None, "a ViT 0 wide"),
        ({"pos_embed": (197, 384)}, None, r"pos_embed is \[197, 384\]"),
        ({"pos_embed": (1, 0, 384)}, None, r"pos_embed is \[1, 0, 384\]"),
        ({}, 7, "a ViT 384 wide cannot have 7 attention heads"),
    ],
)
def test_vits_of_impossible_shapes_are_refused(
    changes: dict[str, tuple[int, ...]], num_heads: int | None, words: str
) -> None:
    with pytest.raises(WeightsError, match=f"^file: {words}"):
        vit_of(vit_shapes(384, 12, 16, 197) | changes, "file", num_heads=num_heads)


def test_moco_v3_has_twelve_heads_in_its_small_vit() -> None:
    """Its vits.py says so, and no shape does: with six heads features would be wrong without a word."""
    moco = {f"state_dict.module.base_encoder.{k}": v for k, v in vit_tensors(384, 12, 16, 197).items()}
    moco |= {"state_dict.module.momentum_encoder.head.0.weight": torch.zeros(8, 384)}
    found = identify(WeightsFile(path=Path("vit-s-300ep.pth.tar"), tensors=moco), ReferenceOptions())
    assert (found.reading.layout.name, found.config.model_dump()["num_heads"]) == ("moco_v3", 12)
    plain = identify(WeightsFile(path=Path("dino.pth"), tensors=vit_tensors(384, 12, 16, 197)), ReferenceOptions())
    assert plain.config.model_dump()["num_heads"] is None


def test_maes_decoder_is_set_aside_and_plain_vits_are_resized_bicubically() -> None:
    mae = {f"model.{name}": value for name, value in vit_tensors(768, 12, 16, 197).items()}
    decoder = ("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.norm1.weight")
    mae |= {f"model.{name}": torch.zeros(8) for name in decoder}
    found = identify(WeightsFile(path=Path("mae.pth"), tensors=mae), ReferenceOptions())
    assert (found.reading.layout.name, found.config.name) == ("vit", "timm/vit_base_patch16_224")
    assert found.reading.heads == tuple(f"model.{name}" for name in decoder)
    assert found.reading.left_over == ()
    assert found.preprocessing.interpolation == "bicubic"
