"""Blocks that are recomputed in the backward pass: the same gradients and statistics, less kept for it."""

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from issl_engine.models.activation_checkpointing import recompute_in_backward
from issl_engine.models.encoders.base import Encoder
from issl_engine.models.encoders.resnet import ResNetConfig
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.models.encoders.timm_model import TimmConfig

SIZE = 16


class Toy(nn.Module):
    """Stands in for a timm model, with two blocks that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.stages = nn.ModuleDict({"first": nn.Sequential(self.block(), self.block())})

    @staticmethod
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages["first"](self.stem(x)).mean((2, 3))


def make(name: str, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    torch.manual_seed(0)
    if name == "small_resnet":
        return SmallResNetConfig(width=8, dim=16).build(image_size=SIZE)
    if name == "timm":
        timm = types.ModuleType("timm")
        timm.__dict__.update(__version__="0", is_model=lambda model: True, create_model=lambda *a, **k: Toy())
        monkeypatch.setitem(sys.modules, "timm", timm)
        return TimmConfig(name="timm/toy").build(image_size=SIZE)
    return ResNetConfig(name=name, dim=1024 if name == "resnet18" else None).build(image_size=SIZE)  # type: ignore[arg-type]


def pass_through(encoder: Encoder) -> tuple[Tensor, dict[str, Tensor], int]:
    """(output, gradients and buffers after two passes, bytes kept for the second's backward pass)."""
    for _ in range(2):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            z = encoder(images)
        (z * torch.linspace(-1, 1, z.numel()).view_as(z)).sum().backward()
    moved = {name: weight.grad for name, weight in encoder.named_parameters()} | dict(encoder.named_buffers())
    weights = {weight.untyped_storage().data_ptr() for weight in encoder.parameters()}
    return z.detach(), moved, sum(size for pointer, size in kept.items() if pointer not in weights)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["small_resnet", "resnet18", "timm"])
def test_gradients_and_statistics_are_the_same_and_less_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z, moved, kept = pass_through(make(name, monkeypatch))
    encoder = make(name, monkeypatch)
    names = list(encoder.state_dict())
    recompute_in_backward(encoder.blocks())
    z_again, moved_again, kept_again = pass_through(encoder)
    assert torch.equal(z_again, z)
    assert moved_again.keys() == moved.keys()
    for key, value in moved.items():
        torch.testing.assert_close(moved_again[key], value, rtol=0, atol=0, msg=key)
    assert any("running_mean" in key for key in moved)
    assert kept_again < 0.7 * kept
    assert list(encoder.state_dict()) == names


def test_statistics_are_tracked_again_after_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make("small_resnet", monkeypatch)
    recompute_in_backward(encoder.blocks())
    pass_through(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}  # type: ignore[arg-type]


def test_a_model_without_containers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = make("timm", monkeypatch)
    encoder.backbone = nn.Conv2d(3, 8, 3)
    with pytest.raises(
        ValueError, match=r"training\.activation_checkpointing finds none to recompute; set it to false"
    ):
        encoder.blocks()
