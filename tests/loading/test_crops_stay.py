"""The crops of published runs stay as they are, augmentation by augmentation.

Where only whole numbers are moved and turned, every byte is pinned. Elsewhere processors round in ways of their own,
so means are pinned, to 0.3 grey levels; tests/views/test_streams.py pins what is drawn.
"""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import fn, types

from issl_engine.loading import EvaluationImages, TrainingViews
from issl_engine.views.config import ViewsConfig
from issl_engine.views.corruptions import Corruption, CorruptionKind
from issl_engine.views.preprocessing import Preprocessing

from ..views.augmentations.drawn_crops import image_set, smooth_pixels

LEVELS = (1 / 255, 1 / 255, 1 / 255)
OFF: dict[str, Any] = {"flip": 0, "colour_jitter": None, "greyscale": 0}
FACTORS = {"probability": 0.8, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def inverted(view: Any, uniform: Any) -> Any:
    """An operator of a user."""
    return types.Constant(255, dtype=types.DALIDataType.UINT8) - view


def dimmed(view: Any, uniform: Any) -> Any:
    """An operator of a user."""
    return fn.brightness(view, brightness=0.5 + 0.5 * uniform)


def one_policy(*operations: str) -> dict[str, Any]:
    return {"policy": {"name": "trivial_augment", "operations": operations}}


def jitter(**factors: float) -> dict[str, Any]:
    return {"colour_jitter": FACTORS | factors}


WHOLE_NUMBERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flip": {"flip": 0.5},
    "solarise": {"solarise": {"probability": 0.5}},
    "posterise": one_policy("posterise"),
    "policy's solarise": one_policy("solarise"),
    "translate": one_policy("translate_x", "translate_y"),
    "user": {"operators": [{"function": f"{__name__}:inverted", "probability": 0.5}]},
}
ROUNDED: dict[str, dict[str, Any]] = {
    "grey": {"greyscale": 0.5},
    "brightness": jitter(brightness=0.8),
    "contrast": jitter(contrast=1.5),
    "brightness and contrast": jitter(brightness=0.8, contrast=0.8),
    "saturation": jitter(saturation=0.8),
    "hue": jitter(hue=0.4),
    "rotation": {"rotation": {"fill": 255}},
    "blur": {"blur": {}},
    "noise": {"gaussian_noise": {"std": [20, 60]}},
    "rand_augment": {"policy": {"name": "rand_augment", "magnitude": 25, "magnitude_std": 3}},
    "trivial_augment": {"policy": {"name": "trivial_augment"}},
    "user": {"operators": [{"function": f"{__name__}:dimmed", "probability": 0.5}]},
    "all": {
        "flip": 0.5, "colour_jitter": {}, "greyscale": 0.2, "blur": {}, "solarise": {}, "rotation": {},
        "policy": {"name": "rand_augment"}, "gaussian_noise": {},
        "operators": [{"function": f"{__name__}:dimmed", "probability": 0.5}],
    },
}  # fmt: skip
PINNED_BYTES = {
    "nothing": "57dbe9c292a6",
    "flip": "b332aad02e06",
    "solarise": "0256dd5b1d60",
    "posterise": "6494fc6fa429",
    "policy's solarise": "6d34c175125e",
    "translate": "6d7b00251dc6",
    "user": "494ccd657d9e",
}
PINNED_MEANS = {
    "grey": [[126.3, 16.92, 129.77, 21.67], [124.34, 21.02, 130.89, 25.51]],
    "brightness": [[143.17, 25.04, 105.56, 19.07], [104.31, 21.07, 138.56, 25.74]],
    "contrast": [[122.78, 31.71, 130.3, 29.04], [124.64, 27.62, 130.02, 24.47]],
    "brightness and contrast": [[140.19, 28.41, 104.42, 20.98], [104.38, 22.96, 135.88, 23.91]],
    "saturation": [[123.05, 29.54, 130.66, 30.48], [123.68, 27.5, 130.47, 23.37]],
    "hue": [[123.89, 24.62, 130.84, 24.83], [123.88, 24.33, 130.87, 25.22]],
    "rotation": [[129.82, 25.13, 141.69, 25.56], [131.55, 25.19, 135.27, 25.48]],
    "blur": [[123.96, 18.33, 130.93, 21.67], [123.85, 19.33, 130.87, 21.01]],
    "noise": [[123.76, 39.88, 131.23, 37.61], [124.21, 47.84, 131.03, 27.64]],
    "rand_augment": [[116.28, 26.83, 87.85, 23.87], [94.86, 22.53, 88.02, 15.18]],
    "trivial_augment": [[97.59, 22.02, 102.9, 16.19], [109.72, 24.12, 148.21, 25.27]],
    "user": [[123.87, 24.84, 117.61, 22.86], [122.52, 24.56, 122.13, 23.84]],
    "all": [[128.59, 16.9, 88.8, 16.99], [88.7, 13.95, 90.15, 15.49]],
}
PINNED_CORRUPTIONS: dict[CorruptionKind, list[float]] = {
    "gaussian_noise": [125.53, 53.61, 124.21, 54.53],
    "gaussian_blur": [125.18, 26.16, 124.45, 26.64],
    "contrast": [125.2, 5.23, 124.44, 5.32],
    "jpeg": [125.22, 20.88, 124.95, 18.99],
}


def crops(augmentation: dict[str, Any], *, area: tuple[float, float] = (1, 1)) -> torch.Tensor:
    """The second batch of two views of 16 images [2, 8, 3, 24, 24], in grey levels."""
    group = {"count": 2, "size": 24, "area": area, "ratio": (1, 1)}
    views = ViewsConfig.model_validate(
        {"groups": [group], "augmentation": OFF | augmentation, "mean": (0, 0, 0), "std": LEVELS}
    )
    loader = TrainingViews(
        image_set(smooth_pixels()), views, batch_size=8, rank=0, world_size=1, seed=11, device=torch.device("cpu"),
        num_threads=1, start_batch=1,
    )  # fmt: skip
    batch = next(loader)
    loader.close()
    return batch.crops[0].double()


def means(images: torch.Tensor) -> list[float]:
    """Of crops [8, 3, H, W], the first four and the last: the mean, then that of the distance to the next column."""
    values = [images, images.diff(dim=-1).abs()]
    return [value.unflatten(0, (2, -1)).flatten(1).mean(dim=1)[half].item() for half in (0, 1) for value in values]


def corrupted(kind: CorruptionKind) -> list[float]:
    images = EvaluationImages(
        image_set(smooth_pixels(8)),
        Preprocessing(resize=24, crop=20, mean=(0, 0, 0), std=LEVELS, interpolation="bilinear"),
        batch_size=8,
        device=torch.device("cpu"),
        num_threads=1,
        corruption=Corruption(kind=kind, strength=3, seed=5),
    )
    ((batch, _),) = images
    return means(batch.double())


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_every_byte_of_whole_numbers_stays(name: str) -> None:
    levels = crops(WHOLE_NUMBERS[name]).round().to(torch.uint8).numpy()
    assert hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()[:12] == PINNED_BYTES[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_the_means_of_all_other_crops_stay(name: str) -> None:
    area = (0.2, 1.0) if name == "all" else (1.0, 1.0)
    assert [means(view) for view in crops(ROUNDED[name], area=area)] == [
        pytest.approx(pinned, abs=0.3) for pinned in PINNED_MEANS[name]
    ]


@pytest.mark.parametrize("kind", ["gaussian_noise", "gaussian_blur", "contrast", "jpeg"])
def test_the_means_of_corrupted_images_stay(kind: CorruptionKind) -> None:
    assert corrupted(kind) == pytest.approx(PINNED_CORRUPTIONS[kind], abs=0.3)
