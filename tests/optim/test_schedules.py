"""Learning rate and cosine values against closed forms and published figures."""

import math

import pytest
from pydantic import ValidationError

from issl_engine.optim.schedules import ScheduleConfig, check_schedule, cosine, learning_rate


def at(step: int, schedule: ScheduleConfig, peak: float = 1.0, total: int = 100) -> float:
    return learning_rate(step, peak_lr=peak, schedule=schedule, steps_per_epoch=10, total_steps=total)


def test_swav_goes_from_0_3_up_to_4_8_and_down_to_0_0048() -> None:
    swav = ScheduleConfig(warmup_epochs=2, warmup_start_factor=0.3 / 4.8, final_factor=0.001)
    assert at(0, swav, 4.8) == pytest.approx(0.3)
    assert at(10, swav, 4.8) == pytest.approx((0.3 + 4.8) / 2)
    assert at(20, swav, 4.8) == pytest.approx(4.8)
    assert at(60, swav, 4.8) == pytest.approx((4.8 + 0.0048) / 2)
    assert at(100, swav, 4.8) == pytest.approx(0.0048)


def test_cosine_to_zero_still_moves_the_weights_at_the_last_update() -> None:
    schedule = ScheduleConfig()
    assert at(0, schedule) == 1.0
    assert 0 < at(99, schedule) < 1e-3
    assert at(100, schedule) == pytest.approx(0, abs=1e-15)


def test_values_follow_the_formula_at_every_step_and_peak_once() -> None:
    schedule = ScheduleConfig(warmup_epochs=1.5)
    values = [at(step, schedule, 2.0) for step in range(101)]
    expected = [2 * s / 15 if s < 15 else 2 * 0.5 * (1 + math.cos(math.pi * (s - 15) / 85)) for s in range(101)]
    assert values == pytest.approx(expected)
    assert values.index(max(values)) == 15


def test_constant_holds_the_peak_after_the_warm_up() -> None:
    schedule = ScheduleConfig(shape="constant", warmup_epochs=1)
    assert [at(step, schedule) for step in (0, 5, 10, 50, 100)] == pytest.approx([0, 0.5, 1, 1, 1])


@pytest.mark.parametrize("total_steps", [50, 100])
def test_a_warm_up_as_long_as_the_run_is_refused_with_both_lengths(total_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"warmup_epochs \(10, that is 100 steps\).*{total_steps} steps"):
        check_schedule(ScheduleConfig(warmup_epochs=10), steps_per_epoch=10, total_steps=total_steps)


def test_a_warm_up_one_step_shorter_than_the_run_passes() -> None:
    check_schedule(ScheduleConfig(warmup_epochs=10), steps_per_epoch=10, total_steps=101)
    check_schedule(ScheduleConfig(), steps_per_epoch=10, total_steps=1)


def test_yaml_strings_are_coerced_and_bad_values_refused() -> None:
    assert ScheduleConfig.model_validate({"final_factor": "1e-3"}).final_factor == 1e-3
    for bad in (
        {"warmup_epochs": -1},
        {"final_factor": 1.5},
        {"warmup_start_factor": -0.1},
        {"shape": "step"},
    ):
        with pytest.raises(ValidationError):
            ScheduleConfig.model_validate(bad)


def test_an_end_value_that_a_constant_rate_never_reaches_is_refused() -> None:
    with pytest.raises(ValidationError, match="final_factor"):
        ScheduleConfig(shape="constant", final_factor=0.1)


def test_cosine_helper_rises_too_as_ema_momenta_do() -> None:
    assert cosine(0.996, 1.0, 0) == pytest.approx(0.996)
    assert cosine(0.996, 1.0, 0.5) == pytest.approx(0.998)
    assert cosine(0.996, 1.0, 1) == 1.0
    assert cosine(0, 1, 0.25) == pytest.approx((1 - math.sqrt(0.5)) / 2)
