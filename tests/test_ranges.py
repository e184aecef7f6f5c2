"""Ranges of searched keys: what they draw, where their edges are, and what is refused."""

import math
from typing import Any

import pytest

import issl_engine.objectives as objectives
import issl_engine.optim as optim
from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.optim.base import OptimizerConfig
from issl_engine.ranges import Choice, Factor, LogUniform, Multiples, Range, Uniform, range_of
from issl_engine.variants import variants


def test_a_logarithmic_range_is_even_in_the_logarithm() -> None:
    drawn = LogUniform(1e-4, 1e-2)
    assert [drawn.at(u) for u in (0.0, 0.25, 0.5, 0.75)] == [1e-4, 3.16e-4, 1e-3, 3.16e-3]
    assert Uniform(1, 3).at(0.5) == 2.0
    assert isinstance(LogUniform(16, 256).around(64).at(0.3), int)


def test_a_choice_gives_each_value_an_equal_share() -> None:
    drawn = [Choice(("a", "b", "c")).at(u / 300) for u in range(300)]
    assert [drawn.count(value) for value in "abc"] == [100, 100, 100]
    assert Choice((1, 2)).at(math.nextafter(1.0, 0.0)) == 2


@pytest.mark.parametrize(
    ("tried", "value", "edge"),
    [
        (LogUniform(0.01, 1), 0.011, "low"),
        (LogUniform(0.01, 1), 0.1, None),
        (LogUniform(0.01, 1), 0.9, "high"),
        (LogUniform(0.01, 1), 2.0, "outside"),
        (Uniform(0, 10), 5, None),
        (Uniform(0, 10), 9.5, "high"),
        (Choice((1, 2, 4)), 1, "low"),
        (Choice((4, 1, 2)), 4, "high"),
        (Choice((1, 2, 4)), 2, None),
        (Choice((1, 2, 4)), 8, "outside"),
        (Choice((1, 2)), 2, None),
        (Choice(("linear", "mlp")), "mlp", None),
        (Choice((True, False)), False, None),
    ],
)
def test_edges(tried: Range, value: Any, edge: str | None) -> None:
    assert tried.edge(value) == edge


def test_factors_are_those_of_the_recipes_own_value() -> None:
    assert Factor(0.5, 2).around(1e-3) == LogUniform(5e-4, 2e-3)
    assert Multiples((0.25, 1, 4)).around(64) == Choice((16, 64, 256))
    assert Multiples((0.1, 0.2, 1)).around(4) == Choice((1, 4))
    assert not Multiples((0, 1, 2)).around(0).is_open
    with pytest.raises(Mistake, match="above 0"):
        Factor(0.5, 2).around(0.0)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"lgo": [1, 2]}, "did you mean 'log'"),
        ({"log": [1]}, "two numbers"),
        ({"log": [0, 1]}, "above 0"),
        ({"uniform": [2, 1]}, "below its second"),
        ({"log": ["a", "b"]}, "numbers"),
        ({"log": [1, 2], "uniform": [1, 2]}, "one of"),
        ([], "empty"),
        (3, "list of choices"),
    ],
)
def test_a_range_that_is_none_is_refused(written: Any, sentence: str) -> None:
    with pytest.raises(Mistake, match=sentence):
        range_of(written)


def test_a_written_range_is_read() -> None:
    assert range_of([1, 2]) == Choice((1, 2))
    assert range_of({"log": [1e-4, 1]}) == LogUniform(1e-4, 1)
    assert range_of({"uniform": [0, 1]}) == Uniform(0, 1)
    assert range_of({"factor": [0.5, 2]}) == Factor(0.5, 2)
    assert range_of({"factors": [0.5, 2]}) == Multiples((0.5, 2))


@pytest.mark.parametrize("name", list(variants(objectives, ObjectiveConfig)))
def test_every_objective_declares_what_is_tuned_and_takes_all_of_it(name: str) -> None:
    schema = variants(objectives, ObjectiveConfig)[name]
    own = schema(name=name)
    assert own.search_ranges
    for key, declared in own.search_ranges.items():
        absolute = declared.around(getattr(own, key))
        assert absolute.is_open
        for u in (0.0, 0.5, 0.999):
            assert getattr(schema.model_validate({"name": name, key: absolute.at(u)}), key) == absolute.at(u)


@pytest.mark.parametrize("name", list(variants(optim, OptimizerConfig)))
def test_every_optimiser_declares_its_rate_and_decay(name: str) -> None:
    schema = variants(optim, OptimizerConfig)[name]
    assert list(schema.search_ranges) == ["lr", "weight_decay"]
    for key, declared in schema.search_ranges.items():
        value = declared.around(1e-3).at(0.5)
        assert getattr(schema.model_validate({"name": name, "lr": 1.0, key: value}), key) == value
