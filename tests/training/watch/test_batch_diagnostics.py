"""What a training run writes of its representations, and that it trains the same with and without."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from issl_engine.measures.batch import batch_measures
from issl_engine.measures.config import DiagnosticsConfig
from issl_engine.objectives.base import ObjectiveShape
from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.pretrain import pretrain
from issl_engine.training.step import StepResult
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics
from issl_engine.training.watch.interruption import Interrupted

from ..conftest import make_recipe
from ..test_resume import stop_at

OFF = {"every_steps": None}


def measured_lines(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = {
        line["step"]: {key: value for key, value in line.items() if key.startswith("diagnostics.")} for line in lines
    }
    return {step: values for step, values in measured.items() if values}


def train(folder: Path, dataset: Dataset, objective: str, diagnostics: dict[str, Any], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    recipe = make_recipe(objective, diagnostics=diagnostics, **changes)
    return pretrain(recipe, dataset, start_ranks(), folder=folder, seed=0)


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Everything that a checkpoint holds: weights, buffers, the optimiser's state, random numbers."""
    return {f"{path.name}/{k}": v for path in checkpoint.glob("*.safetensors") for k, v in load_file(path).items()}


@pytest.mark.parametrize("objective", ["dissl", "swav"])
def test_weights_and_random_numbers_are_the_same_without_diagnostics(
    objective: str, dataset: Dataset, tmp_path: Path
) -> None:
    with_them = tensors(train(tmp_path / "on", dataset, objective, {"every_steps": 1}))
    without = tensors(train(tmp_path / "off", dataset, objective, OFF))
    assert with_them.keys() == without.keys()
    assert all(with_them[name].equal(without[name]) for name in without)
    assert measured_lines(tmp_path / "off") == {}
    assert list(measured_lines(tmp_path / "on")) == list(range(1, 11))


def test_a_resumed_run_measures_the_same_at_the_same_steps(dataset: Dataset, tmp_path: Path) -> None:
    settings = {"every_steps": 3}
    train(tmp_path / "whole", dataset, "dissl", settings)
    folder = tmp_path / "parts"
    folder.mkdir()
    recipe = make_recipe("dissl", diagnostics=settings)
    with pytest.raises(Interrupted):
        pretrain(recipe, dataset, start_ranks(), folder=folder, seed=0, on_log=stop_at(4))
    pretrain(recipe, dataset, start_ranks(), folder=folder, seed=0)
    whole = measured_lines(tmp_path / "whole")
    assert list(whole) == [3, 6, 9, 10]
    assert measured_lines(folder) == whole


@pytest.mark.parametrize(
    ("every", "log_every", "due"),
    [(100, 10, [100, 200, 250]), (25, 10, [30, 50, 80, 100, 130, 150, 180, 200, 230, 250]),
     (4, 50, [50, 100, 150, 200, 250]), (1000, 10, [250]), (None, 10, [])],
)  # fmt: skip
def test_measures_come_with_the_first_line_at_or_after_each_multiple(
    every: int | None, log_every: int, due: list[int]
) -> None:
    recipe = make_recipe("simclr")
    shape = ObjectiveShape(feature_dim=4, num_views=2, num_global_views=2, batch_size=4)
    config = DiagnosticsConfig(every_steps=every)
    diagnostics = BatchDiagnostics(
        config, recipe.objective.build(shape, None), start_ranks(), log_every_steps=log_every, assigned_rows=8
    )
    lines = range(log_every, 251, log_every)
    assert [step for step in lines if diagnostics.is_due(step, last=step == 250)] == due


def result_of(z_GBD: torch.Tensor, *, skipped: float = 0.0, **metrics: float) -> StepResult:
    scalars = {name: torch.tensor(value) for name, value in metrics.items()}
    return StepResult(
        loss=torch.tensor(1.0), metrics=scalars, data_seconds=0.0, skipped=torch.tensor(skipped), z_GBD=z_GBD
    )


def diagnostics_of(objective: str, num_images: int = 256) -> BatchDiagnostics:
    shape = ObjectiveShape(feature_dim=6, num_views=2, num_global_views=2, batch_size=16)
    built = make_recipe(objective).objective.build(shape, None)
    config = DiagnosticsConfig(num_images=num_images)
    return BatchDiagnostics(config, built, start_ranks(), log_every_steps=1, assigned_rows=32)


def test_the_line_holds_measures_of_the_steps_own_representations() -> None:
    z_GBD = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(0))
    found = diagnostics_of("dissl", 12).measure(result_of(z_GBD, perplexity=6.0, classes_used=12.0, other=1.0))
    x = z_GBD[0, :12].double().numpy()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    p = eigenvalues / eigenvalues.sum()
    rank = float(np.exp(-(p * np.log(p)).sum()))
    assert found["diagnostics.effective_rank"] == pytest.approx(rank)
    assert found["diagnostics.effective_rank_share"] == pytest.approx(rank / 6)
    assert found["diagnostics.marginal_entropy"] == pytest.approx(math.log(6))
    assert found["diagnostics.used_classes_share"] == pytest.approx(12 / 24)
    unit = [row / np.linalg.norm(row) for row in z_GBD[:, :12].double().numpy().reshape(24, 6)]
    apart = [np.sum((unit[i] - unit[i + 12]) ** 2) for i in range(12)]
    assert found["diagnostics.alignment"] == pytest.approx(np.mean(apart))


def test_a_step_that_was_left_out_is_not_measured() -> None:
    assert diagnostics_of("simclr").measure(result_of(torch.full((2, 16, 6), math.nan), skipped=1.0)) == {}


def test_a_single_global_view_has_no_measure_of_views() -> None:
    measures = batch_measures(torch.randn(1, 16, 6))
    assert "rank_me" in measures
    assert not {"alignment", "invariance"} & measures.keys()


def test_a_constant_representation_has_no_spread_and_nothing_else() -> None:
    assert batch_measures(torch.full((2, 16, 6), 0.3)) == {"feature_std": 0.0}
    assert batch_measures(torch.zeros(2, 16, 6)) == {"feature_std": 0.0}
    last_bits = 1 + 2e-7 * torch.rand(2, 16, 6, generator=torch.Generator().manual_seed(0))
    assert batch_measures(0.3 * last_bits) == {"feature_std": 0.0}


def test_representations_in_half_precision_are_measured_too() -> None:
    z_GBD = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(0))
    exact = diagnostics_of("simclr").measure(result_of(z_GBD))
    assert diagnostics_of("simclr").measure(result_of(z_GBD.bfloat16())) == pytest.approx(exact, rel=0.05)
