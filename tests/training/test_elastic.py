"""A run that goes on with another number of ranks, and at another ZeRO stage, trains as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from issl_engine.ranks import start_ranks

from .elastic_ranks import CASES, Stretch, run_stretches, train

Outcome = dict[str, dict[str, Any]]

RANDOM = {"random_start", "random_end"}
FOUR, SIX = "step_00000004", "step_00000006"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elastic")


@pytest.fixture(scope="module")
def outcomes(root: Path, run_ranks: Callable[..., list[Any]]) -> dict[str, Outcome]:
    """Name of a stretch → case → weights, losses and the like. One rank works here, the others in processes."""
    found = {"one": on_one_rank(root, Stretch("one", save_at=(4,)))}
    on_two = [
        Stretch("two", save_at=(4,)),
        Stretch("two again", resume=f"two/{FOUR}"),
        Stretch("one to two", resume=f"one/{FOUR}", save_at=(6,)),
    ]
    on_four = [
        Stretch("two to four", resume=f"two/{FOUR}", save_at=(6,)),
        Stretch("two to four again", resume=f"two/{FOUR}", last_step=4),
    ]
    found |= run_ranks(run_stretches, root, on_two, world_size=2, limit_seconds=240)[0]
    found |= run_ranks(run_stretches, root, on_four, world_size=4, limit_seconds=240)[0]
    found["only resumed"] = on_one_rank(root, Stretch("only resumed", resume=f"two/{FOUR}", last_step=4))
    found["two to one"] = on_one_rank(root, Stretch("two to one", resume=f"two/{FOUR}"))
    found["one to two to one"] = on_one_rank(root, Stretch("one to two to one", resume=f"one to two/{SIX}"))
    found["two to four to one"] = on_one_rank(root, Stretch("two to four to one", resume=f"two to four/{SIX}"))
    return found


def on_one_rank(root: Path, stretch: Stretch) -> Outcome:
    ranks = start_ranks()
    return {case: train(case, stretch, root, ranks) or {} for case in CASES}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "path", ["two", "one to two", "two to four", "two to one", "one to two to one", "two to four to one"]
)
def test_another_number_of_ranks_goes_on_as_one_would(path: str, case: str, outcomes: dict[str, Outcome]) -> None:
    expected, found = outcomes["one"][case], outcomes[path][case]
    assert found.keys() == expected.keys()
    steps = len(found["losses"])
    assert found["losses"] == pytest.approx(expected["losses"][-steps:], rel=1e-4)
    for name in expected.keys() - RANDOM - {"losses"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=5e-5, err_msg=name)


@pytest.mark.parametrize("case", list(CASES))
def test_the_same_ranks_go_on_bit_for_bit(case: str, outcomes: dict[str, Outcome]) -> None:
    whole, resumed = outcomes["two"][case], outcomes["two again"][case]
    assert resumed["losses"] == whole["losses"][-4:]
    assert all(resumed[name] == whole[name] for name in whole.keys() - RANDOM - {"losses"})
    assert resumed["random_start"] == whole["random_end"]  # the steps draw none


def test_random_numbers_on_other_ranks_are_each_ranks_own_and_the_same_again(outcomes: dict[str, Outcome]) -> None:
    four, again = (outcomes[name]["dino"]["random_start"] for name in ("two to four", "two to four again"))
    assert four == again
    assert len({tuple(numbers) for numbers in four}) == 4
    later = outcomes["one to two to one"]["dino"]["random_start"]
    assert outcomes["two to one"]["dino"]["random_start"] not in (later, [four[1]])


def test_a_rank_that_cannot_write_is_named_on_all_ranks(root: Path, outcomes: dict[str, Outcome]) -> None:
    reported = outcomes["refused"]
    assert len(reported) == 2
    for sentence in reported:
        assert "step_00000001: the checkpoint could not be written (rank 1: File too large)" in sentence
    assert not list((root / "refused").glob("step_*"))
