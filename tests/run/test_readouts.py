"""Probes on what an objective offers in place of the representation: which reading is kept, and by what."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from issl_engine.objectives.base import ObjectiveShape, Readout
from issl_engine.objectives.sem import SEM, SEMConfig
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.ranks import start_ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.run.arm import run_arm
from issl_engine.run.readouts import probe_readouts

RESULT = ProbeResult(
    probe="linear", metric="top1", value=0.0, split="test", num_train_images=4, num_split_images=2,
    held_out_value=None, grid="lr {1}", chosen={"lr": 1.0},
)  # fmt: skip


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


READOUTS = [Readout(module=Times(value), name="temperature", value=value) for value in (0.1, 1.0, 10.0)]


def scored(*probes: dict[float, float | None]) -> Any:
    """Probes whose value is what they read of 1, and whose held-out score is the table's."""

    def probe_all(encoder: nn.Module) -> list[ProbeResult]:
        read = encoder(torch.ones(1)).item()
        return [replace(RESULT, value=read, held_out_value=table[round(read, 6)]) for table in probes]

    return probe_all


def test_held_out_images_choose_the_reading_of_each_probe_by_itself() -> None:
    first, second = {0.1: 5.0, 1.0: 7.0, 10.0: 6.0}, {0.1: 9.0, 1.0: 2.0, 10.0: 1.0}
    found = probe_readouts(nn.Identity(), READOUTS, scored(first, second))  # type: ignore[arg-type]
    assert [one.value for one in found] == pytest.approx([1.0, 0.1])
    assert found[0].chosen == {"lr": 1.0, "readout_temperature": 1.0}
    assert found[0].grid == "temperature {0.1, 1, 10} x lr {1}"


def test_readings_that_no_image_chose_are_all_given() -> None:
    found = probe_readouts(nn.Identity(), READOUTS, scored({0.1: None, 1.0: None, 10.0: None}))
    assert [(one.value, one.setting) for one in found] == [
        (pytest.approx(0.1), "temperature 0.1"), (1.0, "temperature 1"), (10.0, "temperature 10"),
    ]  # fmt: skip


def test_without_readings_the_encoder_itself_is_probed() -> None:
    (one,) = probe_readouts(Times(3.0), [], scored({3.0: 1.0}))
    assert one.chosen == {"lr": 1.0}


def test_simplices_are_softmaxes_of_the_heads_normalised_logits() -> None:
    shape = ObjectiveShape(feature_dim=6, num_views=2, num_global_views=2, batch_size=8)
    config = SEMConfig(num_simplices=3, simplex_dim=4, hidden_dim=8, projection_dim=4, probe_temperatures=(0.01, 2.0))
    sem = config.build(shape, None).double()
    assert isinstance(sem, SEM)
    other = SEMConfig.model_validate(config.model_dump()).build(shape, None).double()
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(32, 6, generator=generator, dtype=torch.float64)
    for one in (sem, other):
        for _ in range(200):  # running statistics become those of z
            one.projector.embedder(z)
    assert isinstance(other, SEM)
    for head in (sem.projector, other.projector):
        weight = head.embedder.layers[0].weight.detach()
        logits = z @ weight.T
        for readout, temperature in zip(config.readouts(head), (0.01, 2.0), strict=True):
            rows = ((logits - logits.mean(0)) / (logits.var(0) + 1e-5).sqrt()).unflatten(1, (3, 4)) / temperature
            expected = rows.exp() / rows.exp().sum(-1, keepdim=True)
            found = readout.module.eval()(z)
            torch.testing.assert_close(found, expected.flatten(1), rtol=1e-6, atol=1e-8)
            assert (readout.name, readout.value) == ("temperature", temperature)


def test_an_arm_of_sem_is_probed_on_its_simplices(tmp_path: Path) -> None:
    objective = {"name": "sem", "num_simplices": 8, "simplex_dim": 4, "hidden_dim": 16, "projection_dim": 8}
    content: dict[str, Any] = {
        "name": "tiny",
        "source": {"name": "shapes", "num_train": 64, "num_test": 32, "image_size": 32},
        "views": {"groups": [{"count": 2, "size": 16}]},
        "encoder": {"name": "small_resnet", "width": 4, "dim": 16},
        "objective": objective,
        "optimizer": {"name": "adamw", "lr": 0.003},
        "training": {"epochs": 1, "global_batch_size": 16, "threads": 1},
        "evaluation": {"resize": 32, "crop": 32},
        "probes": [{"name": "knn"}],
        "diagnostics": {"after_images": None},
    }
    chosen = {}
    for name, temperatures in (("simplices", [0.1, 1.0]), ("representation", [])):
        changed = content | {"objective": objective | {"probe_temperatures": temperatures}}
        run_arm(Recipe.model_validate(changed), tmp_path / "arm" / "seed0", 0, start_ranks(), None)
        (path,) = (tmp_path / "arm" / "seed0").glob("probes*.json")
        (result,) = json.loads(path.read_text())
        chosen[name] = result["chosen"]
    assert chosen["simplices"]["readout_temperature"] in (0.1, 1.0)
    assert "readout_temperature" not in chosen["representation"], "made anew, as the objective's keys changed"
