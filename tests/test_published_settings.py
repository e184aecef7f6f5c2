"""Recipes that quote a published figure have the published settings, as the authors' programs give them."""

from pathlib import Path
from typing import Any

import pytest

from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe

FOLDER = Path(__file__).parents[1] / "recipes"


def arms(name: str) -> dict[str, Recipe]:
    return load_recipe(FOLDER / f"{name}.yaml").arms


def settings(config: Any, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in names)


@pytest.mark.parametrize("name", ["e100", "e400", "dissl_e800_d8192_m8", "swav_compare"])
def test_dissl_on_imagenet_has_the_teacher_of_its_width(name: str) -> None:
    found = [arm for arm in arms(f"imagenet/{name}").values() if arm.objective.name == "dissl"]
    assert found
    for arm in found:
        wide = getattr(arm.encoder, "dim", None) == 8192
        keys = ("teacher_head", "hidden_dim", "hidden_layers", "teacher_init", "student_head", "bottleneck_dim")
        expected = (
            ("bottleneck_block", 2048, 2, "johnson_lindenstrauss", "linear", 512)
            if wide
            else ("block_bottleneck", 2048, 1, "linear", "linear", 512)
        )
        assert settings(arm.objective, *keys, "num_classes") == (*expected, 16384)
        assert settings(arm.objective, "entropy_weight", "invariance_weight") == (2.3, 0.6)
        assert arm.optimizer.decay_all, "their configuration decays biases and norms (regularize_bn, regularize_bias)"


def test_cissl_on_imagenet() -> None:
    cissl = arms("imagenet/swav_compare")["cissl"].objective
    keys = ("temperature", "hidden_dim", "hidden_layers", "projection_dim", "init", "student_head")
    assert settings(cissl, *keys) == (0.1, 2048, 2, 128, "johnson_lindenstrauss", "linear")


def test_tinyimagenet() -> None:
    table = arms("tinyimagenet/table1")
    keys = ("num_prototypes", "hidden_dim", "hidden_layers", "batch_norm", "bottleneck_dim")
    assert settings(table["dino"].objective, *keys) == (1000, 1024, 1, True, 256)
    assert settings(table["dino"].objective, "warmup_teacher_temperature_epochs", "ema_momentum") == (50, 0.996)
    for name, arm in table.items():
        coarse = name.endswith("_aug")
        jitter = arm.views.augmentation.colour_jitter
        assert arm.views.interpolation == "bicubic"
        assert arm.views.groups[0].area == ((0.1, 1.0) if coarse else (0.2, 1.0))
        assert arm.views.augmentation.greyscale == (0.2 if coarse else 0.1)
        assert jitter is not None
        assert settings(jitter, "brightness", "contrast", "saturation", "hue", "probability") == (
            (0.8, 0.8, 0.8, 0.2, 0.8) if coarse else (0.4, 0.4, 0.4, 0.1, 0.8)
        )
        assert (arm.views.augmentation.blur is not None) == coarse
        assert arm.optimizer.decay_all, "torch's Adam over all parameters"


@pytest.mark.parametrize(
    ("arm", "strength", "classes"), [("quarter", 0.25, 24000), ("half", 0.5, 20000), ("once", 1, 16384)]
)
def test_figure_7a_scales_jitter_grey_and_area(arm: str, strength: float, classes: int) -> None:
    recipe = arms("tinyimagenet/figure7a")[arm]
    views, jitter = recipe.views, recipe.views.augmentation.colour_jitter
    assert views.groups[0].area[0] == pytest.approx(0.2 / strength)
    assert views.augmentation.greyscale == pytest.approx(0.1 * strength)
    assert jitter is not None
    assert settings(jitter, "brightness", "hue") == pytest.approx((0.4 * strength, 0.1 * strength))
    assert settings(recipe.objective, "num_classes") == (classes,)


def test_figure_7c_has_one_bottleneck_at_every_width() -> None:
    for name, recipe in arms("tinyimagenet/figure7c").items():
        kind, _, dim = name.partition("_")
        assert settings(recipe.encoder, "dim", "bottleneck") == (int(dim), "always")
        heads = settings(recipe.objective, "student_head", "hidden_dim", "hidden_layers")
        assert heads == (("linear", 1024, 1) if kind == "linear" else ("mlp", 2048, 2))


def test_a_share_of_imagenet_gets_more_epochs() -> None:
    found = arms("imagenet/ablations")
    images = {name: round(found[name].training.image_share * 1_281_167) for name in ("tenth", "third")}
    assert abs(images["tenth"] - 128_116) <= 1
    assert images["third"] == 384_734
    passes = {name: found[name].training.epochs * found[name].training.image_share for name in ("tenth", "third")}
    assert passes == pytest.approx({"tenth": 100, "third": 90.09}), "300 epochs of what the authors call a third"


def test_rates_of_barlow_twins_and_simsiam() -> None:
    found = arms("imagenet/baselines")
    barlow, simsiam = found["barlow_twins"], found["simsiam"]
    (norms,) = barlow.optimizer.groups
    assert barlow.optimizer.peak_lr(2048) == pytest.approx(0.2 * 2048 / 256)
    assert barlow.optimizer.peak_lr(2048) * norms.lr_factor == pytest.approx(0.0048 * 2048 / 256)
    assert settings(barlow.objective, "off_diagonal_weight", "hidden_dim", "projection_dim") == (0.0051, 8192, 8192)
    assert settings(simsiam.optimizer, "lr", "weight_decay", "decay_all") == (0.05, 1e-4, True)
    assert [(group.of, group.follows_schedule) for group in simsiam.optimizer.groups] == [("predictor", False)]
