"""The online probe learns, leaves the encoder alone, resumes exactly, and over ranks is one probe of all images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks


def batch(seed: int, count: int = 32, dim: int = 6) -> tuple[Tensor, Tensor]:
    """Three classes, each with a large coordinate of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, dim, generator=generator) + 3 * F.one_hot(labels, dim), labels


def state_of(probe: OnlineProbe, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adam hardly sees the size of a gradient: the weights alone would not distinguish a mean from a sum."""
    assert probe.weight.grad is not None
    return {
        "weight": probe.weight.detach(),
        "gradient": probe.weight.grad,
        **dict(probe.norm.named_buffers()),
    } | metrics


def state_on_rank(ranks: Ranks) -> dict[str, Tensor]:
    """After three steps on this rank's images."""
    probe = OnlineProbe(6, 3, lr=0.01, group=ranks.group)
    for step in range(3):
        metrics = probe.step(*batch(10 * step + ranks.rank))
    return state_of(probe, metrics)


def test_no_gradient_reaches_the_representations() -> None:
    z, labels = batch(0)
    z.requires_grad_()
    before = z.detach().clone()
    metrics = OnlineProbe(6, 3, lr=0.1).step(z * 1.0, labels)
    assert z.grad is None
    assert torch.equal(z.detach(), before)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())


def test_it_learns_from_ln_c() -> None:
    probe = OnlineProbe(6, 3, lr=0.05)
    records = [probe.step(*batch(seed)) for seed in range(60)]
    torch.testing.assert_close(records[0]["loss"], torch.tensor(3.0).log())
    assert records[-1]["loss"] < 0.2
    assert records[-1]["top1"] > 90


def test_it_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    OnlineProbe(6, 3, lr=0.1).step(*batch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_leaves_it_in_fp32() -> None:
    plain, autocast = OnlineProbe(6, 3, lr=0.1), OnlineProbe(6, 3, lr=0.1)
    plain.step(*batch(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast.step(*batch(0))
    assert torch.equal(plain.weight, autocast.weight)


def test_a_probe_restored_from_a_file_of_plain_tensors_goes_on_bit_for_bit(tmp_path: Path) -> None:
    probe = OnlineProbe(6, 3, lr=0.05)
    for seed in range(5):
        probe.step(*batch(seed))
    restored = OnlineProbe(6, 3, lr=0.05)
    torch.save(probe.state_dict(), tmp_path / "probe.pt")
    restored.load_state_dict(torch.load(tmp_path / "probe.pt", weights_only=True))
    for seed in range(5, 10):
        first, second = probe.step(*batch(seed)), restored.step(*batch(seed))
        assert torch.equal(first["loss"], second["loss"])
    assert torch.equal(probe.weight, restored.weight)
    assert probe.norm.running_mean is not None
    torch.testing.assert_close(restored.norm.running_mean, probe.norm.running_mean, rtol=0, atol=0)


def test_a_single_image_is_refused_before_anything_changes() -> None:
    probe = OnlineProbe(6, 3, lr=0.1)
    with pytest.raises(ValueError, match="at least 2 images"):
        probe.step(*batch(0, count=1))
    assert not probe.optimizer.state


def test_two_ranks_are_one_probe_of_the_joined_batch(run_ranks: Callable[..., list[Any]]) -> None:
    first, second = run_ranks(state_on_rank)
    probe = OnlineProbe(6, 3, lr=0.01)
    for step in range(3):
        parts = [batch(10 * step + rank) for rank in range(2)]
        metrics = probe.step(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    expected = state_of(probe, metrics)
    assert {"loss", "top1", "running_mean"} <= expected.keys() == first.keys()
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value)
