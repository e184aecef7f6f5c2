"""The draws of rotation, noise, policy and the user's operators: their distribution, and what they depend on."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from issl_engine.views.config import Augmentation, CropGroup, GaussianNoise, Rotation, UserOperator, ViewsConfig
from issl_engine.views.further_arguments import further_arguments, num_further_arguments
from issl_engine.views.further_draws import FurtherDraws, draw_further
from issl_engine.views.noise_field import NUM_STARTS, NoiseField
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment

N = 10_000
EVERYTHING = Augmentation(
    rotation=Rotation(probability=0.3, degrees=(-20, 60)),
    policy=RandAugment(name="rand_augment", magnitude_std=3),
    gaussian_noise=GaussianNoise(probability=0.7, std=(2, 12)),
    operators=(
        UserOperator(function="a.b:c", probability=0.25),
        UserOperator(function="a.b:d"),
    ),
)


def views(augmentation: Augmentation = EVERYTHING) -> ViewsConfig:
    trivial = Augmentation(policy=TrivialAugment(name="trivial_augment"))
    groups = (CropGroup(count=2, size=16), CropGroup(count=1, size=8, augmentation=trivial))
    return ViewsConfig(groups=groups, augmentation=augmentation)


def draw(count: int = N, first: int = 0, seed: int = 0, epoch: int = 0) -> list[FurtherDraws]:
    return draw_further(views(), count, seed=seed, epoch=epoch, first_position=first)


def arrays(value: Any) -> list[np.ndarray]:
    """Every array of a record, to any depth."""
    if is_dataclass(value):
        return [array for field in fields(value) for array in arrays(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [array for item in value for array in arrays(item)]
    return [value]


def test_a_position_gets_the_same_draws_in_any_batch() -> None:
    whole, parts = draw(12), [draw(4, first) for first in (0, 4, 8)]
    for view in range(3):
        for number, array in enumerate(arrays(whole[view])):
            joined = np.concatenate([arrays(part[view])[number] for part in parts])
            np.testing.assert_array_equal(array, joined)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"first": 50}])
def test_seed_epoch_and_position_each_change_every_draw(other: dict[str, int]) -> None:
    for ours, theirs in zip(arrays(draw(50)[0]), arrays(draw(50, **other)[0]), strict=True):
        if len(np.unique(ours)) > 1:
            assert not np.array_equal(ours, theirs)


def test_views_differ() -> None:
    first, second, _ = draw(50)
    for ours, theirs in zip(arrays(first), arrays(second), strict=True):
        if len(np.unique(ours)) > 1:
            assert not np.array_equal(ours, theirs)


def test_probabilities_are_the_shares_of_images_and_ranges_are_filled() -> None:
    draws = draw()[0]
    tolerance = 4 * np.sqrt(0.25 / N)
    assert draws.rotated.mean() == pytest.approx(0.3, abs=tolerance)
    turned = draws.degrees[draws.rotated]
    assert (draws.degrees[~draws.rotated] == 0).all()
    assert (turned.min(), turned.mean(), turned.max()) == pytest.approx((-20, 20, 60), abs=1.5)
    assert (draws.noise_std > 0).mean() == pytest.approx(0.7, abs=tolerance)
    noisy = draws.noise_std[draws.noise_std > 0]
    assert (noisy.min(), noisy.mean(), noisy.max()) == pytest.approx((2, 7, 12), abs=0.2)
    assert 0 <= draws.noise_start.min() < draws.noise_start.max() < NUM_STARTS
    assert draws.noise_start.mean() == pytest.approx(NUM_STARTS / 2, rel=0.03)
    assert abs(np.corrcoef(draws.noise_start, draws.noise_std)[0, 1]) < 0.05
    some, always = draws.operators
    assert some.chosen.mean() == pytest.approx(0.25, abs=tolerance)
    assert always.chosen.all()
    for operator in (some, always):
        assert (operator.uniform.min(), operator.uniform.mean()) == pytest.approx((0, 0.5), abs=0.02)
        assert 0.999 < operator.uniform.max() < 1
    assert abs(np.corrcoef(some.chosen, some.uniform)[0, 1]) < 0.05
    assert abs(np.corrcoef(*(step.operation for step in draws.policy_steps))[0, 1]) < 0.05


def test_a_view_without_these_draws_nothing() -> None:
    plain = draw_further(views(Augmentation()), 3, seed=0, epoch=0, first_position=0)[0]
    assert not plain.rotated.any()
    assert not plain.noise_std.any()
    assert (plain.policy_steps, plain.operators) == ((), ())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_graph_is_told_of_as_many_arguments_as_it_gets(channels: int) -> None:
    field = NoiseField(seed=0, largest_size=16)
    for draws, group in zip(draw(4), views().group_of_view, strict=True):
        augmentation = views().augmentation_of(group)
        arguments = further_arguments(draws, augmentation, field, group.size, channels)
        assert len(arguments) == num_further_arguments(augmentation, channels)
        assert all(len(argument) == 4 for argument in arguments)


def test_an_unchosen_crop_is_told_by_its_uniform_number_less_one() -> None:
    draws = draw(200)[0]
    *_, some, always = further_arguments(draws, EVERYTHING, NoiseField(seed=0, largest_size=16), 16, 3)
    np.testing.assert_array_equal(some >= 0, draws.operators[0].chosen)
    np.testing.assert_array_equal(np.where(some < 0, some + 1, some), draws.operators[0].uniform)
    np.testing.assert_array_equal(always, draws.operators[1].uniform)


def test_the_noise_field_is_normal_and_depends_on_the_seed_alone() -> None:
    small, large, other = (NoiseField(seed, size) for seed, size in ((3, 16), (3, 64), (4, 16)))
    starts = np.array([0, 1000, NUM_STARTS - 1])
    windows = small.windows(starts, 16, 3)
    assert (windows.dtype, windows.shape) == (np.int8, (3, 16, 16, 3))
    np.testing.assert_array_equal(windows, large.windows(starts, 16, 3))
    assert not np.array_equal(windows, other.windows(starts, 16, 3))
    many = large.windows(np.arange(0, 400) * 10_000, 64, 1) / 32
    assert (many.mean(), many.std()) == pytest.approx((0, 1), abs=0.01)
    assert (abs(many) < 1).mean() == pytest.approx(0.6827, abs=0.02)
    assert (abs(many) > 2).mean() == pytest.approx(0.0455, abs=0.005)
    assert abs(np.corrcoef(many[:, :, 1:].ravel(), many[:, :, :-1].ravel())[0, 1]) < 0.005
