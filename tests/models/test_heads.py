"""Heads against their layers written out, and the shapes they take."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from issl_engine.models.heads import LinearHead, MLPHead, ResidualHead, l2_normalize


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


def test_residual_head_equals_its_layers() -> None:
    head, x = shaken(ResidualHead(6, 9, hidden_dim=7, bottleneck_dim=3)), rows(5, 6)
    assert isinstance(head, ResidualHead)
    reduced = linear(x, head.reduce, bias=False)
    inner = reduced
    for start in (0, 3, 6):
        inner = linear(norm(inner, head.block[start]).clamp(min=0), head.block[start + 2], bias=False)
    summed = norm(reduced + inner, head.output[0]).clamp(min=0)
    torch.testing.assert_close(head(x), linear(summed, head.output[2], bias=False))


@pytest.mark.parametrize(
    "head",
    [
        LinearHead(6, 4, batch_norm_out=True),
        MLPHead(6, 4, hidden_dim=7),
        ResidualHead(6, 4, hidden_dim=7, bottleneck_dim=3),
    ],
    ids=lambda head: type(head).__name__,
)
def test_batch_norm_sees_the_rows_of_all_views_together(head: nn.Module) -> None:
    head, z = head.double(), rows(3, 5, 6)
    together = head(z)
    assert together.shape == (3, 5, 4)
    torch.testing.assert_close(together, head(z.flatten(0, 1)).unflatten(0, (3, 5)))
    assert not torch.allclose(together, torch.stack([head(view) for view in z]))


def test_published_sizes_of_dissl_heads() -> None:
    with torch.device("meta"):
        teacher = MLPHead(512, 16384, hidden_dim=1024, bottleneck_dim=512)
        student = LinearHead(512, 16384, bottleneck_dim=512)
        residual = ResidualHead(8192, 16384, hidden_dim=2048, bottleneck_dim=512)
    shapes = [[tuple(p.shape) for p in head.parameters() if p.ndim == 2] for head in (teacher, student, residual)]
    assert shapes[0] == [(1024, 512), (512, 1024), (16384, 512)]
    assert shapes[1] == [(512, 512), (16384, 512)]
    assert shapes[2] == [(512, 8192), (2048, 512), (2048, 2048), (512, 2048), (16384, 512)]


def test_l2_normalisation_is_in_float32_and_survives_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.bfloat16)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    torch.testing.assert_close(l2_normalize(x), expected)
    assert l2_normalize(x.double()).dtype == torch.float64
