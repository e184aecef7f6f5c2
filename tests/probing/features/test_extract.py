"""Features are the encoder's outputs in order, and the encoder comes out as it went in."""

import pytest
import torch
from torch import Tensor, nn

from issl_engine.probing.features.extract import extract_features

CPU = torch.device("cpu")


def batches(sizes: tuple[int, ...] = (4, 4, 3), side: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(sum(sizes), 3, side, side, generator=generator)
    return list(zip(images.split(list(sizes)), torch.arange(sum(sizes)).split(list(sizes)), strict=True))


def encoder() -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_rows_are_the_evaluation_mode_outputs_in_order() -> None:
    model = encoder()
    features = extract_features(model, batches(), device=CPU)
    model.eval()
    expected = model(torch.cat([images for images, _ in batches()])).detach()
    torch.testing.assert_close(features.x_ND, expected)
    assert features.x_ND.dtype == torch.float32
    assert not features.x_ND.requires_grad
    assert features.labels_N.tolist() == list(range(11))


def test_modes_and_batch_norm_buffers_are_left_as_they_were() -> None:
    model = encoder().train()
    model.get_submodule("0.1").eval()  # a frozen part of a network in training
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract_features(model, batches(), device=CPU)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_modes_are_restored_after_an_error() -> None:
    model = encoder().train()
    with pytest.raises(RuntimeError):
        extract_features(model, [(torch.zeros(2, 5, 8, 8), torch.zeros(2))], device=CPU)
    assert all(module.training for module in model.modules())


def test_images_reach_the_encoder_channels_last() -> None:
    seen = []

    class Recorder(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.is_contiguous(memory_format=torch.channels_last))
            return images.mean((2, 3))

    extract_features(Recorder(), batches(), device=CPU)
    assert seen == [True] * 3


def test_raw_pixels_are_flattened_and_large_images_averaged_down() -> None:
    small = extract_features(None, batches(side=8), device=CPU)
    assert torch.equal(small.x_ND, torch.cat([images for images, _ in batches(side=8)]).flatten(1))
    large = extract_features(None, batches(side=64), device=CPU)
    assert large.x_ND.shape == (11, 3 * 32 * 32)
    image = batches(side=64)[0][0][0]
    assert large.x_ND[0, 0].item() == pytest.approx(image[0, :2, :2].mean().item(), abs=1e-6)


def test_broken_features_and_missing_images_are_refused() -> None:
    broken = batches()
    broken[1][0][2] = float("nan")
    with pytest.raises(ValueError, match="1 of 11 images are NaN"):
        extract_features(encoder(), broken, device=CPU)
    with pytest.raises(ValueError, match="no image"):
        extract_features(encoder(), [], device=CPU)
