"""The batched MLP probe against torch.nn modules and torch.optim.SGD, and blind to the test split."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.fitting.mlp_stack import MLPStack
from issl_engine.probing.probes.mlp import MLPProbeConfig

from ..conftest import NUM_CLASSES, blobs, evaluated, fit_data, shuffled_labels, top1

PROBE = MLPProbeConfig(hidden_widths=(16, 8), lrs=(0.02, 0.1), weight_decays=(0.0, 0.05), epochs=3, batch_size=16)


def reference(stack: MLPStack, dtype: torch.dtype) -> nn.Sequential:
    """The first network of a stack as torch's modules."""
    layers: list[nn.Module] = []
    for weight_SJK in stack.weights_SJK[:-1]:
        _, outputs, inputs = weight_SJK.shape
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    _, outputs, inputs = stack.weights_SJK[-1].shape
    network = nn.Sequential(*layers, nn.Linear(inputs, outputs)).to(dtype)
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for linear, weight_SJK in zip(linears, stack.weights_SJK, strict=True):
        linear.weight.data.copy_(weight_SJK[0].detach())
    linears[-1].bias.data.copy_(stack.bias_SC[0].detach())
    return network


def train_reference(network: nn.Sequential, x_ND, labels_N, lr: float, weight_decay: float, orders) -> None:
    decayed = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    kept = [p for p in network.parameters() if all(p is not other for other in decayed)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    for step, index in enumerate(orders):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * step / len(orders))) / 2
        optimizer.zero_grad()
        F.cross_entropy(network(x_ND[index]), labels_N[index]).backward()
        optimizer.step()


def test_the_batched_grid_is_a_loop_over_torchs_modules() -> None:
    fit = blobs(103, seed=0)  # the last batch of an epoch is incomplete
    points = PROBE.points()
    stack = PROBE.fit_points(fit, points, fit_data(fit, seed=5)).stack
    x_ND = ((fit.x_ND - fit.x_ND.mean(0)) / (fit.x_ND.var(0, correction=0) + 1e-5).sqrt()).double()
    outputs_SNC = stack.outputs(x_ND.float(), training=False)
    for s, point in enumerate(points):
        generator = torch.Generator().manual_seed(5)
        start = MLPStack((fit.width, 16, 8, NUM_CLASSES), 1, generator=generator, device=torch.device("cpu"))
        network = reference(start, torch.float64)
        orders = []
        for _ in range(3):
            order = torch.randperm(103, generator=generator)
            orders += [order[i * 16 : (i + 1) * 16] for i in range(6)]
        train_reference(network, x_ND, fit.labels_N, float(point["lr"]), float(point["weight_decay"]), orders)
        expected_NC = network.eval()(x_ND)
        torch.testing.assert_close(outputs_SNC[s].double(), expected_NC, rtol=2e-3, atol=2e-3)
    assert (outputs_SNC[0] - outputs_SNC[1]).abs().max() > 0.05  # the weight decay is felt


def test_each_combination_scores_as_it_does_alone() -> None:
    fit, score = blobs(200, seed=0, noise=2), blobs(200, seed=1, noise=2)
    together = top1(PROBE, fit, score, PROBE.points())
    alone = [top1(PROBE, fit, score, [point])[0] for point in PROBE.points()]
    assert together == pytest.approx(alone, abs=1)
    assert len(set(together)) > 2


def test_it_learns_what_no_linear_probe_can() -> None:
    def rings(seed: int) -> Features:
        generator = torch.Generator().manual_seed(seed)
        labels_N = torch.arange(400) % 2
        x_ND = F.normalize(torch.randn(400, 4, generator=generator), dim=1) * (1 + labels_N)[:, None]
        return Features(x_ND=x_ND, labels_N=labels_N)

    probe = MLPProbeConfig(hidden_widths=(32,), lrs=(0.1,), weight_decays=(0.0,), epochs=20, batch_size=32)
    assert evaluated(probe, rings(0), rings(1), rings(2)).value > 95


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = (blobs(count, seed=seed, noise=2) for seed, count in enumerate((200, 100, 200)))
    probe = MLPProbeConfig(hidden_widths=(16,), lrs=(1e-5, 0.1), weight_decays=(0.0,), epochs=4, batch_size=32)
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert (honest.chosen, honest.held_out_value) == (spoilt.chosen, spoilt.held_out_value)
    assert honest.chosen["lr"] == 0.1
    assert honest.value > spoilt.value + 20


def test_weights_that_overflow_lose() -> None:
    fit = blobs(100, seed=0)
    probe = MLPProbeConfig(hidden_widths=(8,), lrs=(0.01, 1e4), weight_decays=(100.0,), epochs=10, batch_size=10)
    good, overflown = top1(probe, fit, fit, probe.points())
    assert good > 10
    assert overflown == 0


def test_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        PROBE.fit_points(blobs(1, seed=0), PROBE.points(), fit_data(blobs(1, seed=0)))


@pytest.mark.parametrize("bad", [{"hidden_widths": ()}, {"hidden_widths": (0,)}, {"lrs": ()}, {"batch_size": 1}])
def test_impossible_grids_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        MLPProbeConfig(**bad)
