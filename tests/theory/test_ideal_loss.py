"""The loss on the ETF is what the engine's objectives have there, and an optimum where it is said to be one."""

import math

import pytest
import torch
from torch import Tensor

from issl_engine.objectives.base import Objective, ObjectiveShape, Progress
from issl_engine.objectives.cissl import CISSLConfig
from issl_engine.objectives.dissl import DISSLConfig
from issl_engine.objectives.simclr import SimCLRConfig
from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.ideal_loss import ideal_loss
from issl_kernels import distillation

CLASSES = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
"""Of ten images, C = 4."""
START = Progress(step=0, steps_per_epoch=1, total_steps=1)


def built(config: CISSLConfig | SimCLRConfig) -> Objective:
    shape = ObjectiveShape(feature_dim=3, num_views=2, num_global_views=2, batch_size=len(CLASSES))
    return config.build(shape, None)


def compare(config: CISSLConfig | SimCLRConfig, vectors_Cd: Tensor) -> float:
    rows = torch.nn.functional.normalize(vectors_Cd, dim=1)[CLASSES].expand(2, -1, -1).float()
    embeddings = (rows, rows) if isinstance(config, CISSLConfig) else (rows,)
    return float(built(config).compare(embeddings, START).loss)


@pytest.mark.parametrize("config", [CISSLConfig(temperature=0.5), SimCLRConfig(temperature=0.3)])
def test_contrastive_losses_are_the_engines_on_the_etf(config: CISSLConfig | SimCLRConfig) -> None:
    assert ideal_loss(config, CLASSES, 4) == pytest.approx(compare(config, simplex_etf(4)), rel=1e-5)


@pytest.mark.parametrize("config", [CISSLConfig(temperature=0.5), SimCLRConfig(temperature=0.3)])
def test_of_equally_frequent_classes_no_vectors_do_better(config: CISSLConfig | SimCLRConfig) -> None:
    classes = torch.arange(4).repeat_interleave(3)
    best = ideal_loss(config, classes, 4)
    own = isinstance(config, CISSLConfig)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(400):
        rows = torch.nn.functional.normalize(vectors, dim=1)[classes.repeat(2)]
        logits = rows @ rows.T / config.temperature
        if not own:
            logits = logits.masked_fill(torch.eye(24, dtype=torch.bool), -math.inf)
        positives = (rows * rows.roll(12, dims=0)).sum(1) / config.temperature
        loss = (logits.logsumexp(1) - positives).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.item() >= best - 1e-9
    assert loss.item() == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(("entropy_weight", "outputs"), [(2.3, 8), (2.3, 4), (1.1, 8)])
def test_dissl_on_disjoint_outputs_is_the_engines_loss(entropy_weight: float, outputs: int) -> None:
    config = DISSLConfig(num_classes=outputs, entropy_weight=entropy_weight, invariance_weight=0.2)
    shared = outputs // 4 if entropy_weight > 1.2 else 1
    logits_CK = torch.full((4, outputs), -60.0)
    for c in range(4):
        logits_CK[c, c * shared : (c + 1) * shared] = 0.0
    logits = logits_CK[CLASSES].expand(2, -1, -1).clone()
    loss, _ = distillation(
        logits, logits, teacher_temperature=1.0, student_temperature=1.0, entropy_weight=entropy_weight,
        invariance_weight=0.2,
    )  # fmt: skip
    assert ideal_loss(config, CLASSES, 4) == pytest.approx(float(loss), rel=1e-5)


def test_no_invariant_predictions_have_a_lower_dissl_loss() -> None:
    config = DISSLConfig(num_classes=8, entropy_weight=2.3, invariance_weight=0.2)
    classes = torch.arange(4).repeat_interleave(2)
    best = ideal_loss(config, classes, 4)
    assert best == pytest.approx(-(2.3 - 1.2) * math.log(8) - 1.2 * math.log(4))
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 4.0, 20.0):
        logits = (scale * torch.randn(4, 8, generator=generator))[classes].expand(2, -1, -1).clone()
        loss, _ = distillation(
            logits, logits, teacher_temperature=1.0, student_temperature=1.0, entropy_weight=2.3, invariance_weight=0.2
        )
        assert float(loss) > best


def test_two_merged_classes_cost_dissl_what_the_experiment_says() -> None:
    """Two of eight classes with one prediction: (1 + beta) ln(2) / 4 nats."""
    classes, logits_CK = torch.arange(8), torch.full((8, 16), -60.0)
    for c in range(8):
        logits_CK[c, 2 * c : 2 * c + 2] = 0.0
    logits_CK[:2, :4] = 0.0
    logits = logits_CK.expand(2, -1, -1).clone()
    loss, _ = distillation(
        logits, logits, teacher_temperature=1.0, student_temperature=1.0, entropy_weight=2.3, invariance_weight=0.2
    )
    config = DISSLConfig(num_classes=16, entropy_weight=2.3, invariance_weight=0.2)
    assert float(loss) - ideal_loss(config, classes, 8) == pytest.approx(1.2 * math.log(2) / 4, rel=1e-4)
