"""Encoders: torchvision's names and shapes, values against a functional fp64 forward, stems, expansion."""

import math
import sys
import types
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

import issl_engine.models.encoders as encoders
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.models.encoders.dimension_bottleneck import DimensionBottleneck
from issl_engine.models.encoders.resnet import ResNetConfig, stem_for
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.models.encoders.timm_model import TimmConfig
from issl_engine.variants import one_of, variants

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
PARAMETERS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}
CONVS = {"resnet18": 2, "resnet34": 2, "resnet50": 3}  # in a block


def torchvision_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Key → shape of torchvision's state dict without ``fc``, in its order, from the paper's table."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_and_norm(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{conv}.weight"] = shape
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = (shape[0],)
        shapes[f"{norm}.num_batches_tracked"] = ()

    conv_and_norm("conv1", "bn1", (64, 3, 7, 7))
    channels = 64
    for layer, (depth, width) in enumerate(zip(DEPTHS[name], (64, 128, 256, 512), strict=True), start=1):
        out = width * (4 if CONVS[name] == 3 else 1)
        for block in range(depth):
            at = f"layer{layer}.{block}"
            if CONVS[name] == 3:
                kernels = [(width, channels, 1, 1), (width, width, 3, 3), (out, width, 1, 1)]
            else:
                kernels = [(width, channels, 3, 3), (width, width, 3, 3)]
            for number, kernel in enumerate(kernels, start=1):
                conv_and_norm(f"{at}.conv{number}", f"{at}.bn{number}", kernel)
            if block == 0 and (layer > 1 or channels != out):
                conv_and_norm(f"{at}.downsample.0", f"{at}.downsample.1", (out, channels, 1, 1))
            channels = out
    return shapes


def norm(x: Tensor, state: dict[str, Tensor], at: str) -> Tensor:
    """Batch-norm with the batch's own statistics, from the formula."""
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    gain, bias = state[f"{at}.weight"].view(1, -1, 1, 1), state[f"{at}.bias"].view(1, -1, 1, 1)
    return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias


def conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def functional_resnet(name: str, state: dict[str, Tensor], x: Tensor, stem: str) -> Tensor:
    """The feature map after layer4, from the state dict alone."""
    x = F.pad(x, (1, 1, 1, 1)) if stem == "tiny_padded" else x
    x = norm(conv(x, state["conv1.weight"], 2 if stem == "imagenet" else 1), state, "bn1").clamp(min=0)
    if not stem.startswith("tiny"):
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, stride=2)
    for layer, depth in enumerate(DEPTHS[name], start=1):
        for block in range(depth):
            at, skip = f"layer{layer}.{block}", x
            stride = 2 if layer > 1 and block == 0 else 1
            for number in range(1, CONVS[name] + 1):
                strided = number == (2 if CONVS[name] == 3 else 1)  # version 1.5: on the 3x3 convolution
                x = conv(x, state[f"{at}.conv{number}.weight"], stride if strided else 1)
                x = norm(x, state, f"{at}.bn{number}")
                x = x.clamp(min=0) if number < CONVS[name] else x
            if f"{at}.downsample.0.weight" in state:
                skip = norm(conv(skip, state[f"{at}.downsample.0.weight"], stride), state, f"{at}.downsample.1")
            x = (x + skip).clamp(min=0)
    return x


def shake_norms(encoder: nn.Module) -> None:
    """Gains and biases away from 1 and 0, so that a missing or swapped one shows."""
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)


def build(image_size: int = 32, **settings: Any) -> Encoder:
    """A shaken encoder in fp64, from what a recipe would say."""
    torch.manual_seed(0)
    config: EncoderConfig = TypeAdapter(one_of(encoders, EncoderConfig)).validate_python(settings)
    encoder = config.build(image_size=image_size).double()
    shake_norms(encoder)
    return encoder


def images(size: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64)


def test_recipes_can_name_all_encoders() -> None:
    found = set(variants(encoders, EncoderConfig))
    assert found >= {"resnet18", "resnet34", "resnet50", "small_resnet", "timm/"}


@pytest.mark.parametrize("name", DEPTHS)
def test_names_shapes_and_order_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        encoder = ResNetConfig(name=name).build(image_size=224)  # type: ignore[arg-type]
    actual = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert list(actual.items()) == list(torchvision_shapes(name).items())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("stem", ["imagenet", "small", "tiny", "tiny_padded"])
def test_resnet_of_basic_blocks_equals_the_functional_forward(stem: str) -> None:
    encoder, x = build(name="resnet18", stem=stem), images(32, count=4)
    expected = functional_resnet("resnet18", encoder.state_dict(), x, stem).mean((2, 3))
    torch.testing.assert_close(encoder(x), expected, rtol=1e-9, atol=1e-9)


def test_a_width_multiplier_widens_every_layer() -> None:
    encoder, x = build(name="resnet18", stem="small", width_multiplier=2), images(32, count=4)
    state = encoder.state_dict()
    expected = functional_resnet("resnet18", state, x, "small").mean((2, 3))
    assert (encoder.dim, expected.shape[1]) == (1024, 1024)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-9, atol=1e-9)
    for name, shape in torchvision_shapes("resnet18").items():
        wide = [2 * size if place < 2 and size > 3 else size for place, size in enumerate(shape)]
        assert list(state[name].shape) == (wide if name != "conv1.weight" else [128, 3, 3, 3]), name


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_deeper_resnets_equal_the_functional_forward(name: str) -> None:
    # 2x2 pixels are left at the end: statistics over two values only would blow rounding errors up.
    encoder, x = build(name=name, stem="small"), images(32, count=4)
    expected = functional_resnet(name, encoder.state_dict(), x, "small").mean((2, 3))
    torch.testing.assert_close(encoder(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "stem"), [(28, "tiny"), (49, "tiny"), (50, "small"), (99, "small"), (100, "imagenet")]
)
def test_auto_stem_follows_the_largest_crop(size: int, stem: str) -> None:
    assert stem_for(size) == stem
    with torch.device("meta"):
        encoder = ResNetConfig(name="resnet18").build(image_size=size)
    kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
    assert encoder.conv1.kernel_size == (kernel, kernel)
    assert encoder.conv1.stride == (stride, stride)
    assert isinstance(encoder.maxpool, nn.Identity) == (stem == "tiny")


def test_a_named_stem_beats_the_image_size() -> None:
    with torch.device("meta"):
        encoder = ResNetConfig(name="resnet18", stem="tiny").build(image_size=224)
    assert isinstance(encoder.maxpool, nn.Identity)


@pytest.mark.parametrize(
    ("dim", "residual"), [(1024, True), (1536, True), (700, False), (512, True), (256, False), (128, False)]
)
def test_bottleneck_equals_its_formula_with_and_without_the_repeated_input(dim: int, residual: bool) -> None:
    encoder, x = build(name="resnet18", stem="small", dim=dim, bottleneck="always"), images(16)
    state = encoder.state_dict()
    trunk = functional_resnet("resnet18", state, x, "small")
    out = trunk
    for number in (1, 2, 3):
        out = norm(conv(out, state[f"resizer.conv{number}.weight"]), state, f"resizer.bn{number}")
        out = out.clamp(min=0) if number < 3 else out
    if residual:
        out = out + torch.cat([trunk] * (dim // 512), dim=1)
    z = encoder(x)
    assert z.shape == (3, dim)
    assert encoder.dim == dim
    torch.testing.assert_close(z, out.clamp(min=0).mean((2, 3)), rtol=1e-9, atol=1e-9)


def test_expansion_has_the_published_shapes_and_starts_as_a_random_projection() -> None:
    torch.manual_seed(0)
    resizer = DimensionBottleneck(2048, 8192)
    shapes = {key: tuple(value.shape) for key, value in resizer.named_parameters() if "conv" in key}
    assert shapes == {
        "conv1.weight": (512, 2048, 1, 1),
        "conv2.weight": (512, 512, 3, 3),
        "conv3.weight": (8192, 512, 1, 1),
    }
    weight = resizer.conv1.weight.detach()
    assert weight.std().item() == pytest.approx(1 / math.sqrt(512), rel=0.01)
    assert abs(weight.mean().item()) < 1e-3


def test_expansion_sends_gradients_to_every_parameter_and_to_its_input() -> None:
    expansion = DimensionBottleneck(8, 24).double()
    x = torch.randn(4, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    (expansion(x) * torch.randn(4, 24, 3, 3, dtype=torch.float64)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    for name, parameter in expansion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_plain_resnet_has_no_expansion_weights() -> None:
    with torch.device("meta"):
        assert not [key for key in build(name="resnet18").state_dict() if key.startswith("resizer")]
        explicit = ResNetConfig(name="resnet50", dim=2048).build(image_size=224)
    assert isinstance(explicit.resizer, nn.Identity)


def test_a_dim_below_the_backbones_has_the_published_shapes() -> None:
    with torch.device("meta"):
        encoder = ResNetConfig(name="resnet18", dim=128).build(image_size=64)
    shapes = {key: tuple(value.shape) for key, value in encoder.resizer.named_parameters() if "conv" in key}
    assert shapes == {
        "conv1.weight": (512, 512, 1, 1),
        "conv2.weight": (512, 512, 3, 3),
        "conv3.weight": (128, 512, 1, 1),
    }
    assert not encoder.resizer.is_residual


def test_weights_start_as_torchvisions() -> None:
    torch.manual_seed(0)
    encoder = ResNetConfig(name="resnet18").build(image_size=224)
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name
        elif isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)), name


@pytest.mark.parametrize(("name", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_zero_init_residual_zeroes_the_last_norm_of_every_block_and_nothing_else(name: str, last: str) -> None:
    encoder = ResNetConfig(name=name, zero_init_residual=True).build(image_size=32)  # type: ignore[arg-type]
    zero = {key for key, value in encoder.named_parameters() if "bias" not in key and not value.any()}
    blocks = [f"layer{i}.{j}" for i, depth in enumerate(DEPTHS[name], start=1) for j in range(depth)]
    assert zero == {f"{block}.{last}.weight" for block in blocks}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "resnet18", "stem": "imagenet", "dim": 1024},
        {"name": "resnet18", "stem": "tiny"},
        {"name": "small_resnet", "width": 8, "dim": 24},
        {"name": "small_resnet", "width": 8, "dim": 24, "stem_stride": 1},
    ],
    ids=["imagenet_expanded", "tiny", "small_resnet", "small_resnet_stride_1"],
)
def test_any_size_from_8_px_trains_in_any_memory_format(settings: dict, memory_format: torch.memory_format) -> None:
    encoder = build(**settings)
    encoder.to(memory_format=memory_format)  # type: ignore[call-overload]
    for size in (8, 11, 28):
        encoder.zero_grad()
        z = encoder(images(size).to(memory_format=memory_format))
        assert z.shape == (3, encoder.dim)
        z.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_channels_last_gives_the_same_representations() -> None:
    encoder, x = build(name="resnet18", stem="small", dim=1024), images(16)
    expected = encoder(x)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    actual = encoder(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_small_resnet_equals_its_functional_forward() -> None:
    encoder, x = build(name="small_resnet", width=8, dim=40), images(16)
    state = encoder.state_dict()
    out = norm(conv(x, state["conv1.weight"], 2), state, "bn1").clamp(min=0)
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        at, skip = f"layer{layer}.0", out
        out = norm(conv(out, state[f"{at}.conv1.weight"], stride), state, f"{at}.bn1").clamp(min=0)
        out = norm(conv(out, state[f"{at}.conv2.weight"]), state, f"{at}.bn2")
        if layer > 1:
            skip = norm(conv(skip, state[f"{at}.downsample.0.weight"], stride), state, f"{at}.downsample.1")
        out = (out + skip).clamp(min=0)
    assert out.shape[1] == 32
    expected = norm(conv(out, state["conv_out.weight"]), state, "bn_out").clamp(min=0).mean((2, 3))
    torch.testing.assert_close(encoder(x), expected, rtol=1e-9, atol=1e-9)


def test_small_resnet_defaults_are_small() -> None:
    encoder = SmallResNetConfig().build(image_size=32)
    assert encoder.dim == 512
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 400_000


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "resnet19"},
        {"name": "resnet18", "dim": 0},
        {"name": "resnet18", "stem": "huge"},
        {"name": "small_resnet", "stem_stride": 3},
        {"name": "small_resnet", "dims": 512},
        {"name": "timm/"},
    ],
)
def test_settings_that_name_no_encoder_are_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        build(**settings)


class PooledToy(nn.Module):
    """Stands in for a timm model: 3 → ``width`` channels, pooled unless asked not to."""

    def __init__(self, width: int, pooled: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.dropout = nn.Dropout(0.5)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.conv(x))
        return x.mean((2, 3)) if self.pooled else x


def install_toy_timm(monkeypatch: pytest.MonkeyPatch, *, fixed_size: bool = False, pooled: bool = True) -> list[dict]:
    """A stand-in for the timm library with one model, ``toy``; the calls to create_model are recorded."""
    calls: list[dict] = []

    def create_model(model: str, **settings: Any) -> nn.Module:
        calls.append(settings)
        backbone = PooledToy(7, pooled)
        backbone.pretrained_cfg = {"fixed_input_size": fixed_size}  # type: ignore[assignment]
        return backbone

    timm = types.ModuleType("timm")
    timm.__dict__.update(__version__="0", is_model=lambda model: model == "toy", create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    return calls


def test_timm_models_are_never_pretrained_and_their_width_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = install_toy_timm(monkeypatch)
    encoder = build(name="timm/toy")
    assert calls == [{"pretrained": False, "num_classes": 0}]
    assert encoder.dim == 7
    assert encoder.get_submodule("backbone").training
    assert encoder(images(8)).shape == (3, 7)


def test_timm_models_of_one_size_are_made_for_the_largest_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install_toy_timm(monkeypatch, fixed_size=True)
    build(image_size=48, name="timm/toy")
    assert calls[-1] == {"pretrained": False, "num_classes": 0, "img_size": 48, "dynamic_img_size": True}


def test_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install issl-engine\[timm\]"):
        TimmConfig(name="timm/toy").build(image_size=32)


def test_a_timm_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("issl_engine.models.encoders.timm_model.import_module", broken)
    with pytest.raises(ValueError, match=r"does not load \(operator torchvision::nms does not exist\)"):
        TimmConfig(name="timm/toy").build(image_size=32)


def test_heads_of_a_timm_model_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install_toy_timm(monkeypatch)
    build(name="timm/toy", num_heads=12)
    assert calls == [{"pretrained": False, "num_classes": 0, "num_heads": 12}]


class RefusingToy(PooledToy):
    """Refuses sizes as timm's transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 16 == 0, "Input height should be divisible by patch size (16)."
        return super().forward(x)


@pytest.mark.parametrize("refusal", [AssertionError("dim should be divisible by num_heads"), TypeError("num_heads")])
def test_heads_that_a_timm_model_refuses_are_a_mistake_and_a_defect_without_them_is_none(
    refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: str, **settings: Any) -> nn.Module:
        raise refusal

    install_toy_timm(monkeypatch)
    monkeypatch.setattr(sys.modules["timm"], "create_model", refuse)
    with pytest.raises(Mistake, match=r"^encoder\.num_heads: timm/toy cannot have 5 attention heads \(.*num_heads\)"):
        TimmConfig(name="timm/toy", num_heads=5).build(image_size=32)
    with pytest.raises(type(refusal)):
        TimmConfig(name="timm/toy").build(image_size=32)


def test_a_size_that_a_timm_model_refuses_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy_timm(monkeypatch)
    monkeypatch.setattr(sys.modules["timm"], "create_model", lambda model, **settings: RefusingToy(7))
    assert build(name="timm/toy", image_size=32).dim == 7
    with pytest.raises(Mistake, match=r"^encoder timm/toy does not take images of 20 x 20 pixels \(Input height"):
        build(name="timm/toy", image_size=20)


def test_unknown_timm_models_and_maps_instead_of_vectors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy_timm(monkeypatch, pooled=False)
    with pytest.raises(ValueError, match="timm/other is not a model of timm 0"):
        TimmConfig(name="timm/other").build(image_size=32)
    with pytest.raises(ValueError, match=r"timm/toy gives \[1, 7, 30, 30\]"):
        TimmConfig(name="timm/toy").build(image_size=32)
