"""No probe asks for all rows of a large set at once, and how they come changes no result."""

from typing import Any

import pytest
import torch

import issl_engine.probing.probes as probing
from issl_engine.probing.features import features as feature_view
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.splits import Splits
from issl_engine.probing.probes.base import ProbeConfig, ProbeResult
from issl_engine.probing.probes.fitting import normalised_blocks, ridge_path
from issl_engine.variants import variants

from ..conftest import NUM_CLASSES
from ..judging.test_leak_check import QUICK, splits

ROWS = 16
FEW_AT_A_TIME: dict[str, dict[str, Any]] = QUICK | {
    "linear_sgd": {"epochs": 1, "batch_size": ROWS},
    "linear_augmented": {"epochs": 1, "batch_size": ROWS},
    "mlp": {"hidden_widths": (8,), "epochs": 1, "batch_size": ROWS},
}
PROBES = variants(probing, ProbeConfig)
OF_FEATURES = sorted(name for name in PROBES if name != "linear_augmented")
"""Those that are fitted on features, not on images."""


def results(name: str, parts: Splits, device: str = "cpu") -> list[ProbeResult]:
    probe = PROBES[name](**FEW_AT_A_TIME.get(name, {}))
    return probe.evaluate(
        train=parts.train, held_out=parts.held_out, test=parts.judged, num_classes=NUM_CLASSES, seed=0,
        device=torch.device(device), crops=parts.crops,
    )  # fmt: skip


@pytest.mark.parametrize("name", OF_FEATURES)
def test_rows_come_in_small_blocks_and_the_result_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = splits()
    expected = results(name, parts)
    monkeypatch.setattr(feature_view, "BLOCK_ROWS", ROWS)
    monkeypatch.setattr(ridge_path, "BLOCK_ROWS", ROWS)
    monkeypatch.setattr(normalised_blocks, "RESIDENT_BYTES", 0)
    monkeypatch.setattr("issl_engine.probing.probes.knn.BLOCK_ELEMENTS", ROWS * 200)
    asked: list[int] = []
    fetch = Features._fetch

    def watched(self: Features, rows_B: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows_B))
        return fetch(self, rows_B)

    monkeypatch.setattr(Features, "_fetch", watched)
    monkeypatch.setattr(Features, "x_ND", property(lambda self: pytest.fail("all rows were asked for")))
    found = results(name, parts)
    assert 1 < max(asked) <= ROWS
    for first, second in zip(expected, found, strict=True):
        assert second.value == pytest.approx(first.value, abs=2)  # sums come in another order
        assert first.num_train_images == second.num_train_images


@pytest.mark.gpu
@pytest.mark.parametrize("name", OF_FEATURES)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    parts = splits()
    for first, second in zip(results(name, parts), results(name, parts, "cuda"), strict=True):
        assert (first.metric, first.setting) == (second.metric, second.setting)
        assert second.value == pytest.approx(first.value, abs=4)
