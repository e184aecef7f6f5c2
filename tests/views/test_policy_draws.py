"""Which operations a policy draws, how strong they are, and what its configuration refuses."""

import numpy as np
import pytest
from pydantic import ValidationError

from issl_engine.views.policies.base import ALL_OPERATIONS, Operation
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.policy_draws import UNIFORMS_PER_STEP, PolicyStep, draw_step

N, SIZE = 20_000, 96


def step_of(policy: RandAugment | TrivialAugment, count: int = N) -> PolicyStep:
    return draw_step(policy, SIZE, np.random.default_rng(0).random((count, UNIFORMS_PER_STEP)))


def rand_augment(operation: Operation, magnitude: float, magnitude_std: float = 0) -> PolicyStep:
    policy = RandAugment(name="rand_augment", operations=(operation,), magnitude=magnitude, magnitude_std=magnitude_std)
    return step_of(policy)


def trivial_augment(operation: Operation) -> PolicyStep:
    return step_of(TrivialAugment(name="trivial_augment", operations=(operation,)))


def degrees_of(step: PolicyStep) -> np.ndarray:
    return np.rad2deg(np.arctan2(step.matrix[:, 1, 0], step.matrix[:, 0, 0]))


@pytest.mark.parametrize("operations", [ALL_OPERATIONS, ("rotate", "equalise", "contrast")])
def test_operations_are_equally_likely(operations: tuple[Operation, ...]) -> None:
    counts = np.bincount(
        step_of(TrivialAugment(name="trivial_augment", operations=operations)).operation, minlength=len(ALL_OPERATIONS)
    )
    expected = N / len(operations)
    for index, name in enumerate(ALL_OPERATIONS):
        if name in operations:
            assert counts[index] == pytest.approx(expected, abs=5 * np.sqrt(expected))
        else:
            assert counts[index] == 0


def test_rand_augment_at_the_largest_magnitude_has_the_papers_strengths() -> None:
    for name, signed in (("shear_x", 0.3), ("translate_x", int(150 / 331 * SIZE))):
        amounts = rand_augment(name, 30).matrix[:, 0, 1 if name == "shear_x" else 2]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.unique(amounts), [-signed, signed], rtol=1e-6)
    np.testing.assert_allclose(np.unique(np.round(degrees_of(rand_augment("rotate", 30)), 3)), [-30, 30])
    for name in ("brightness", "colour", "contrast"):
        np.testing.assert_allclose(np.unique(rand_augment(name, 30).value), [0.1, 1.9], rtol=1e-5)  # type: ignore[arg-type]
    assert set(rand_augment("posterise", 30).value) == {0b11110000}
    assert set(rand_augment("solarise", 30).value) == {0}


def test_rand_augment_at_magnitude_zero_changes_little() -> None:
    np.testing.assert_array_equal(rand_augment("shear_y", 0).matrix, np.tile(np.eye(3), (N, 1, 1)))
    assert set(rand_augment("brightness", 0).value) == {1}
    assert set(rand_augment("posterise", 0).value) == {255}
    assert set(rand_augment("solarise", 0).value) == {255}


def test_the_default_magnitude_is_nine_thirtieths() -> None:
    policy = RandAugment(name="rand_augment", operations=("rotate",))
    assert (policy.num_ops, policy.magnitude, policy.magnitude_std) == (2, 9, 0)
    np.testing.assert_allclose(abs(degrees_of(step_of(policy))), 9, rtol=1e-4)


def test_the_magnitudes_deviation_is_normal_and_stays_within_the_range() -> None:
    magnitudes = abs(degrees_of(rand_augment("rotate", 15, magnitude_std=3)))
    assert magnitudes.mean() == pytest.approx(15, abs=0.1)
    assert magnitudes.std() == pytest.approx(3, abs=0.1)
    assert (abs(magnitudes - 15) < 3).mean() == pytest.approx(0.683, abs=0.02)
    wide = abs(degrees_of(rand_augment("rotate", 15, magnitude_std=30)))
    assert wide.max() <= 30.001


def test_trivial_augment_draws_each_of_31_magnitudes_equally() -> None:
    steps = np.rint(abs(trivial_augment("shear_x").matrix[:, 0, 1]) / 0.99 * 30).astype(int)
    assert np.bincount(steps, minlength=31) == pytest.approx(N / 31, abs=5 * np.sqrt(N / 31))
    assert abs(degrees_of(trivial_augment("rotate"))).max() == pytest.approx(135, rel=1e-4)
    assert abs(trivial_augment("translate_y").matrix[:, 1, 2]).max() == 32
    assert set(trivial_augment("posterise").value) == {255, 254, 252, 248, 240, 224, 192}
    np.testing.assert_allclose(
        (trivial_augment("contrast").value.min(), trivial_augment("contrast").value.max()), (0.01, 1.99), rtol=1e-3
    )


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_half_of_the_images_go_either_way(name: Operation) -> None:
    off = trivial_augment(name).matrix - np.eye(3)
    moved = off[np.abs(off).max(axis=(1, 2)) > 0]
    row, column = {"shear_x": (0, 1), "shear_y": (1, 0), "translate_x": (0, 2), "translate_y": (1, 2)}.get(name, (1, 0))
    assert (moved[:, row, column] > 0).mean() == pytest.approx(0.5, abs=0.02)


def test_sharpness_filters_keep_the_sum_of_the_pixels() -> None:
    matrix = trivial_augment("sharpness").matrix
    np.testing.assert_allclose(matrix.sum(axis=(1, 2)), 1, atol=1e-5)
    assert matrix[:, 1, 1].min() < 0.5
    assert matrix[:, 1, 1].max() > 1.5


def test_an_operation_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="operations has rotate more than once; name each operation once"):
        TrivialAugment(name="trivial_augment", operations=("rotate", "shear_x", "rotate"))
