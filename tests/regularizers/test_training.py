"""Regularisers in a recipe and in training: where they are named, what they log, what they do not go with."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from issl_engine.ranks import start_ranks
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.alarms import CollapseAlarm
from issl_profiling.plan.counts import count
from issl_profiling.train.case import TrainCase
from issl_profiling.train.plain import PlainTraining

from ..training.conftest import dataset, make_recipe

__all__ = ["dataset"]

BOTH = [{"name": "koleo", "weight": 0.1}, {"name": "ldreg", "num_neighbours": 8, "start_epochs": 1}]


@pytest.mark.parametrize("objective", ["simclr", "byol"])
def test_training_adds_and_logs_every_penalty(objective: str, dataset: Any, tmp_path: Path) -> None:
    recipe = make_recipe(objective, regularizers=BOTH)
    pretrain(recipe, dataset, start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        late = 0.01 * record["regularizer.ldreg"] if record["step"] > 5 else 0.0
        expected = record["objective_loss"] + 0.1 * record["regularizer.koleo"] + late
        assert record["loss"] == pytest.approx(expected, rel=1e-5)
        assert all(math.isfinite(value) for value in record.values())


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"regularizers must differ in name, not \['koleo', 'koleo'\]"):
        make_recipe("simclr", regularizers=[{"name": "koleo"}, {"name": "koleo"}])


def test_exact_accumulation_is_refused() -> None:
    training = {"epochs": 1, "global_batch_size": 8, "accumulation_steps": 2, "exact_accumulation": True}
    with pytest.raises(ValidationError, match=r"regularizers see the representations of one forward pass.*leave reg"):
        make_recipe("simclr", regularizers=[{"name": "koleo"}], training=training)


@pytest.mark.parametrize("wrong", [{"name": "koleo", "weight": 0}, {"name": "koleo", "wieght": 1}, {"name": "kleo"}])
def test_mistakes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="regularizers"):
        make_recipe("simclr", regularizers=[wrong])


def test_the_alarm_watches_the_objectives_own_loss(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[float] = []
    monkeypatch.setattr(CollapseAlarm, "note", lambda self, loss, step: noted.append(float(loss)))
    pretrain(make_recipe("simclr", regularizers=BOTH), dataset, start_ranks(), folder=tmp_path, seed=0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert noted == pytest.approx([record["objective_loss"] for record in records[5:]])


def test_what_measures_training_refuses_what_it_leaves_out(dataset: Any) -> None:
    recipe = make_recipe("simclr", regularizers=BOTH)
    with pytest.raises(ValueError, match=r"regularizers \(koleo, ldreg\) are not counted by the plan; leave them out"):
        count(recipe)
    with pytest.raises(ValueError, match="regularizers are not part of what bench train compares; leave them out"):
        TrainCase.of("simclr", recipe, dataset, start_ranks())
    with pytest.raises(ValueError, match=r"objective diet has a class for each training image.*choose another"):
        count(make_recipe("diet"))
    with pytest.raises(ValueError, match=r"objective diet needs the images' indices.*choose another objective"):
        PlainTraining(TrainCase.of("diet", make_recipe("diet"), dataset, start_ranks()))
