"""Streaming moments against NumPy in fp64, far from zero too."""

import pytest
import torch

from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.probes.fitting.standardise import moments


def features(offset: float) -> Features:
    generator = torch.Generator().manual_seed(0)
    x_ND = offset + torch.randn(101, 7, generator=generator) * torch.linspace(0.1, 5, 7)
    return Features(x_ND=x_ND, labels_N=torch.zeros(101, dtype=torch.int64))


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("rows", [1, 10, 101])
def test_blocks_of_any_size_give_the_moments_of_all(offset: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_ROWS", rows)
    data = features(offset)
    found, wide = moments(data, CPU), data.x_ND.double()
    torch.testing.assert_close(found.mean_D, wide.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.variance_D, wide.var(0, correction=0), rtol=1e-9, atol=0)


def test_standardised_features_have_mean_0_and_deviation_1() -> None:
    data = features(3.0)
    scale_D, offset_D = moments(data, CPU).standardising
    x_ND = data.x_ND * scale_D + offset_D
    torch.testing.assert_close(x_ND.mean(0), torch.zeros(7), rtol=0, atol=1e-5)
    torch.testing.assert_close(x_ND.std(0, correction=0), torch.ones(7), rtol=0, atol=1e-3)


def test_resized_features_have_root_mean_square_1() -> None:
    data = features(3.0)
    scale_D, offset_D = moments(data, CPU).resizing
    assert len(scale_D.unique()) == 1
    assert not offset_D.any()
    assert (data.x_ND * scale_D).square().mean().item() == pytest.approx(1, abs=1e-5)


def test_a_constant_feature_stays_finite() -> None:
    data = Features(x_ND=torch.full((5, 2), 3.0), labels_N=torch.zeros(5, dtype=torch.int64))
    scale_D, offset_D = moments(data, CPU).standardising
    assert (data.x_ND * scale_D + offset_D).abs().max() < 1e-3
