"""Heads against their layers written out, and the shapes they take."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from issl_engine.models.heads import LinearHead, MLPHead, ResidualBlock, ResidualHead, init_projections, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveShape
from issl_engine.objectives.cissl import CISSLConfig
from issl_engine.objectives.dissl import DISSLConfig


def shaken(head: nn.Module) -> nn.Module:
    """In fp64, with batch-norm gains and biases away from 1 and 0, so that a missing one shows."""
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return head.double()


def rows(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.BatchNorm1d)
    centred = x - x.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt() * layer.weight + layer.bias


def linear(x: Tensor, layer: nn.Module, *, bias: bool) -> Tensor:
    assert isinstance(layer, nn.Linear)
    assert (layer.bias is not None) == bias
    y = x @ layer.weight.T
    return y + layer.bias if bias else y


def test_plain_linear_head() -> None:
    head, x = shaken(LinearHead(6, 4)), rows(5, 6)
    assert len(head.layers) == 1
    torch.testing.assert_close(head(x), linear(x, head.layers[0], bias=True))


def test_linear_head_with_batch_norm_is_student_of_cissl() -> None:
    head, x = shaken(LinearHead(6, 4, batch_norm_out=True)), rows(5, 6)
    torch.testing.assert_close(head(x), norm(linear(x, head.layers[0], bias=False), head.layers[1]))


def test_linear_head_with_bottleneck_has_no_non_linearity() -> None:
    head, x = shaken(LinearHead(6, 9, bottleneck_dim=3)), rows(5, 6)
    reduced = norm(linear(x, head.layers[0], bias=False), head.layers[1])
    torch.testing.assert_close(head(x), linear(reduced, head.layers[2], bias=True))
    head.eval()  # affine: the midpoint goes to the midpoint
    torch.testing.assert_close(head((x[:1] + x[1:2]) / 2), (head(x[:1]) + head(x[1:2])) / 2)


def test_mlp_head_with_bottleneck_is_teacher_of_dissl() -> None:
    head, x = shaken(MLPHead(6, 9, hidden_dim=7, bottleneck_dim=3)), rows(5, 6)
    hidden = norm(linear(x, head.layers[0], bias=False), head.layers[1]).clamp(min=0)
    reduced = norm(linear(hidden, head.layers[3], bias=False), head.layers[4])
    torch.testing.assert_close(head(x), linear(reduced, head.layers[5], bias=True))


def test_mlp_head_with_two_layers_and_normalised_output() -> None:
    head, x = shaken(MLPHead(6, 4, hidden_dim=7, hidden_layers=2, batch_norm_out=True)), rows(5, 6)
    hidden = norm(linear(x, head.layers[0], bias=False), head.layers[1]).clamp(min=0)
    hidden = norm(linear(hidden, head.layers[3], bias=False), head.layers[4]).clamp(min=0)
    torch.testing.assert_close(head(x), norm(linear(hidden, head.layers[6], bias=False), head.layers[7]))


def test_mlp_head_without_batch_norm_has_biases_and_gelu() -> None:
    head, x = (
        MLPHead(6, 4, hidden_dim=7, batch_norm=False, bias_out=False, activation="gelu").double(),
        rows(5, 6),
    )
    hidden = F.gelu(linear(x, head.layers[0], bias=True))
    torch.testing.assert_close(head(x), linear(hidden, head.layers[2], bias=False))


def activated(x: Tensor, layers: list[nn.Module]) -> Tensor:
    first, second, third = layers
    assert isinstance(third, nn.ReLU)
    return norm(linear(x, first, bias=False), second).clamp(min=0)


@pytest.mark.parametrize("block_first", [True, False])
def test_residual_head_equals_its_layers(block_first: bool) -> None:
    head = shaken(ResidualHead(6, 9, hidden_dim=7, hidden_layers=2, bottleneck_dim=3, block_first=block_first))
    x, layers = rows(5, 6), list(head.layers)
    block = layers.pop(0) if block_first else layers.pop(3)
    assert isinstance(block, ResidualBlock)

    def through_block(y: Tensor) -> Tensor:
        inner = y
        for start in (0, 3, 6):
            inner = activated(inner, list(block.layers)[start : start + 3])
        return y + inner

    reduced = (
        activated(through_block(x), layers[:3]) if block_first else through_block(activated(x, layers[:3]))
    )  # fmt: skip
    assert len(block.layers) == 9
    torch.testing.assert_close(head(x), linear(reduced, layers[3], bias=True))


def test_projections_start_with_variance_one_over_their_outputs_and_keep_lengths() -> None:
    torch.manual_seed(0)
    head = ResidualHead(512, 4096, hidden_dim=256, hidden_layers=2, bottleneck_dim=128, block_first=False)
    before = {name: weight.clone() for name, weight in head.named_parameters()}
    init_projections(head)
    changed = {name for name, weight in head.named_parameters() if not weight.equal(before[name])}
    assert changed == {"layers.0.weight", "layers.3.layers.6.weight"}, "those from 512 and from 256 to 128"
    weight = head.layers[0].weight.detach()
    assert weight.var().item() == pytest.approx(1 / 128, rel=0.02)
    x = torch.randn(1000, 512, generator=torch.Generator().manual_seed(1))
    ratios = (x @ weight.T).norm(dim=1) / x.norm(dim=1)
    assert ratios.mean().item() == pytest.approx(1, abs=0.01)
    linear_ratios = (x @ before["layers.0.weight"].T).norm(dim=1) / x.norm(dim=1)
    assert linear_ratios.mean().item() == pytest.approx(math.sqrt(128 / (3 * 512)), rel=0.02), "torch's own"


@pytest.mark.parametrize(
    "head",
    [
        LinearHead(6, 4, batch_norm_out=True),
        MLPHead(6, 4, hidden_dim=7),
        ResidualHead(6, 4, hidden_dim=7, hidden_layers=1, bottleneck_dim=3, block_first=True),
    ],
    ids=lambda head: type(head).__name__,
)
def test_batch_norm_sees_the_rows_of_all_views_together(head: nn.Module) -> None:
    head, z = head.double(), rows(3, 5, 6)
    together = head(z)
    assert together.shape == (3, 5, 4)
    torch.testing.assert_close(together, head(z.flatten(0, 1)).unflatten(0, (3, 5)))
    assert not torch.allclose(together, torch.stack([head(view) for view in z]))


def sizes(head: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in head.parameters() if weight.ndim == 2]


def built(config: ObjectiveConfig, feature_dim: int) -> Objective:
    shape = ObjectiveShape(feature_dim=feature_dim, num_views=2, num_global_views=2, batch_size=8)
    with torch.device("meta"):
        return config.build(shape, None)


def test_published_sizes_of_dissl_heads() -> None:
    tiny = built(DISSLConfig(), 512)
    assert sizes(tiny.teacher_head) == [(1024, 512), (512, 1024), (16384, 512)]
    assert sizes(tiny.student_head) == [(512, 512), (16384, 512)]
    d2048 = built(DISSLConfig(teacher_head="block_bottleneck", hidden_dim=2048), 2048)
    assert sizes(d2048.teacher_head) == [(2048, 2048), (2048, 2048), (512, 2048), (16384, 512)]
    assert sizes(d2048.student_head) == [(512, 2048), (16384, 512)]
    d8192 = built(DISSLConfig(teacher_head="bottleneck_block", hidden_dim=2048, hidden_layers=2), 8192)
    assert sizes(d8192.teacher_head) == [(512, 8192), (2048, 512), (2048, 2048), (512, 2048), (16384, 512)]
    for objective in (tiny, d2048, d8192):
        for head in (objective.teacher_head, objective.student_head):
            assert [name for name, layer in head.named_modules() if getattr(layer, "bias", None) is not None
                    and isinstance(layer, nn.Linear)] == [f"layers.{len(head.layers) - 1}"]  # fmt: skip


def test_published_sizes_of_cissl_heads() -> None:
    cissl = built(CISSLConfig(hidden_dim=2048, hidden_layers=2, temperature=0.1), 2048)
    assert sizes(cissl.teacher_head) == [(2048, 2048), (2048, 2048), (128, 2048)]
    assert sizes(cissl.student_head) == [(128, 2048)]
    both = built(CISSLConfig(hidden_dim=2048, hidden_layers=2, student_head="mlp"), 512)
    assert sizes(both.student_head) == sizes(both.teacher_head) == [(2048, 512), (2048, 2048), (128, 2048)]


def test_random_projections_are_where_they_were_published() -> None:
    shape = ObjectiveShape(feature_dim=256, num_views=2, num_global_views=2, batch_size=8)
    starts = {"teacher_head": "bottleneck_block", "bottleneck_dim": 64, "hidden_dim": 128, "num_classes": 512}
    dissl = DISSLConfig.model_validate(starts | {"teacher_init": "johnson_lindenstrauss"}).build(shape, None)
    assert dissl.teacher_head.layers[0].weight.std().item() == pytest.approx(1 / 8, rel=0.03)
    assert dissl.student_head.layers[0].weight.abs().max().item() <= 1 / 16, "torch's own, uniform"
    cissl = CISSLConfig(projection_dim=64, hidden_dim=256, init="johnson_lindenstrauss").build(shape, None)
    assert cissl.student_head.layers[0].weight.std().item() == pytest.approx(1 / 8, rel=0.03)
    assert cissl.teacher_head.layers[3].weight.std().item() == pytest.approx(1 / 8, rel=0.03)
    assert cissl.teacher_head.layers[0].weight.abs().max().item() <= 1 / 16


def test_l2_normalisation_is_in_float32_and_survives_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.bfloat16)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    torch.testing.assert_close(l2_normalize(x), expected)
    assert l2_normalize(x.double()).dtype == torch.float64
