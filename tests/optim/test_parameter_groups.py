"""Which weights are in which group, and what each group is given at each step, against torch's optimisers by hand."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from issl_engine.mistakes import Mistake
from issl_engine.optim.adamw import AdamWConfig
from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.group_config import GroupConfig
from issl_engine.optim.larc import LARCConfig
from issl_engine.optim.rates import Rates, rates_at
from issl_engine.optim.schedules import ScheduleConfig
from issl_engine.optim.sgd import SGDConfig

STEPS = 12
SCHEDULE = ScheduleConfig(warmup_epochs=1.0)  # of 3 steps


class Small(nn.Module):
    """An encoder, and an objective with a head and a predictor, by the names that a learner gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.objective = nn.ModuleDict({name: nn.Linear(4, 2) for name in ("head", "predictor", "other")})
        self.double()


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def treated(config: OptimizerConfig, *no_decay: str) -> dict[str, dict[str, Any]]:
    """Name of a weight → its group."""
    module = small()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    optimizer = config.build(module.named_parameters(), no_decay=set(no_decay), lr=0.1)
    return {names[id(weight)]: group for group in optimizer.param_groups for weight in group["params"]}


CONFIGS = [AdamWConfig, SGDConfig, LARCConfig]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_weight_belongs_to_the_first_group_that_it_fits(kind: type[OptimizerConfig]) -> None:
    groups = (
        GroupConfig(of="predictor", follows_schedule=False),
        GroupConfig(of="biases_and_norms", lr_factor=0.5),
        GroupConfig(of="heads", lr_factor=2.0),
    )
    found = treated(kind(lr=0.1, groups=groups))
    own = {name: (group["lr_factor"], group["follows_schedule"]) for name, group in found.items()}
    assert own["objective.predictor.weight"] == own["objective.predictor.bias"] == (1.0, False)
    assert own["encoder.1.weight"] == own["objective.head.bias"] == (0.5, True)
    assert own["objective.head.weight"] == own["objective.other.weight"] == (2.0, True)
    assert own["encoder.0.weight"] == (1.0, True)
    assert found["objective.head.bias"]["lr"] == 0.05, "the rate before the first step is that of its group"


def test_the_order_of_groups_decides() -> None:
    norms, predictor = GroupConfig(of="biases_and_norms", lr_factor=0.5), GroupConfig(of="predictor", lr_factor=3.0)
    for groups, factor in (((norms, predictor), 0.5), ((predictor, norms), 3.0)):
        assert treated(SGDConfig(lr=0.1, groups=groups))["objective.predictor.bias"]["lr_factor"] == factor


@pytest.mark.parametrize("decay_all", [False, True])
def test_a_groups_own_decay_is_that_of_its_weights_and_no_decay_stays(decay_all: bool) -> None:
    groups = (GroupConfig(of="heads", weight_decay=0.7),)
    config = AdamWConfig(lr=0.1, weight_decay=0.3, decay_all=decay_all, weight_decay_end=0.5, groups=groups)
    found = treated(config, "objective.other.weight")
    decays = {name: (group["weight_decay"], group["follows_decay_schedule"]) for name, group in found.items()}
    assert decays["objective.head.weight"] == (0.7, False)
    assert decays["objective.head.bias"] == ((0.7, False) if decay_all else (0.0, False))
    assert decays["objective.other.weight"] == (0.0, False)
    assert decays["encoder.0.weight"] == (0.3, True)
    assert decays["encoder.1.weight"] == ((0.3, True) if decay_all else (0.0, False))


def test_biases_and_norms_may_decay_by_themselves() -> None:
    groups = (GroupConfig(of="biases_and_norms", weight_decay=0.7),)
    found = treated(SGDConfig(lr=0.1, weight_decay=0.3, groups=groups), "objective.other.bias")
    assert found["encoder.1.weight"]["weight_decay"] == 0.7
    assert found["objective.other.bias"]["weight_decay"] == 0.0
    assert found["encoder.0.weight"]["weight_decay"] == 0.3


def test_without_keys_there_are_the_two_groups_of_before() -> None:
    module = small()
    optimizer = AdamWConfig(lr=0.1, weight_decay=0.3).build(module.named_parameters(), no_decay=set(), lr=0.1)
    sizes = [(group["weight_decay"], [weight.ndim for weight in group["params"]]) for group in optimizer.param_groups]
    assert sizes == [(0.3, [2] * 4), (0.0, [1] * 6)]


def test_a_group_that_no_weight_is_left_for_is_refused() -> None:
    groups = (GroupConfig(of="heads"), GroupConfig(of="predictor"))
    with pytest.raises(Mistake, match="the group of predictor"):
        treated(SGDConfig(lr=0.1, groups=groups))


def test_two_groups_of_the_same_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="different weights"):
        SGDConfig(lr=0.1, groups=(GroupConfig(of="heads"), GroupConfig(of="heads", lr_factor=2.0)))


def rates(config: OptimizerConfig, step: int) -> Rates:
    return rates_at(
        step, optimizer=config, schedule=SCHEDULE, peak_lr=config.lr, steps_per_epoch=3, total_steps=STEPS
    )  # fmt: skip


def published_lr(step: int, peak: float) -> float:
    return peak * step / 3 if step < 3 else peak * (1 + math.cos(math.pi * (step - 3) / (STEPS - 3))) / 2


def test_weight_decay_goes_along_half_a_cosine_from_the_first_step_on() -> None:
    config = AdamWConfig(lr=0.1, weight_decay=0.04, weight_decay_end=0.4)
    decays = [rates(config, step).weight_decay for step in range(STEPS)]
    assert decays[0] == pytest.approx(0.04)
    assert decays == pytest.approx([0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * t / STEPS)) / 2 for t in range(STEPS)])
    assert rates(AdamWConfig(lr=0.1, weight_decay=0.04), 5).weight_decay is None


def trained(config: OptimizerConfig) -> dict[str, torch.Tensor]:
    module = small()
    optimizer = config.build(module.named_parameters(), no_decay=set(), lr=config.lr)
    for step in range(STEPS):
        rates(config, step).give(optimizer.param_groups)
        give_gradients(module, step)
        optimizer.step()
    return {name: weight.detach() for name, weight in module.named_parameters()}


def give_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64) + 0.1 * weight.detach()


def test_a_scheduled_decay_trains_as_one_adamw_a_weight_does() -> None:
    config = AdamWConfig(lr=0.1, weight_decay=0.04, weight_decay_end=0.4)
    module = small()
    ones = {name: torch.optim.AdamW([weight], lr=0.1) for name, weight in module.named_parameters()}
    for step in range(STEPS):
        give_gradients(module, step)
        decay = 0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * step / STEPS)) / 2
        for name, weight in module.named_parameters():
            (group,) = ones[name].param_groups
            group["lr"], group["weight_decay"] = published_lr(step, 0.1), decay if weight.ndim > 1 else 0.0
            ones[name].step()
    for name, weight in trained(config).items():
        torch.testing.assert_close(weight, module.get_parameter(name).detach(), rtol=1e-12, atol=1e-12)


def test_biases_at_their_own_rate_train_as_in_barlow_twins() -> None:
    """Rates 0.2 and 0.0048 of weights and of biases and norms; these neither decay nor adapt (the authors' LARS, with
    the sum of norms in place of the norm of the sum, as this engine's LARC has it)."""
    groups = (GroupConfig(of="biases_and_norms", lr_factor=0.0048 / 0.2),)
    config = LARCConfig(
        lr=0.2, weight_decay=0.1, trust_coefficient=0.5, exclude_bias_and_norm_from_adaptation=True, groups=groups
    )  # fmt: skip
    module = small()
    momenta = {name: torch.zeros_like(weight) for name, weight in module.named_parameters()}
    for step in range(STEPS):
        give_gradients(module, step)
        for name, weight in module.named_parameters():
            assert weight.grad is not None
            change, lr = weight.grad, published_lr(step, 0.0048)
            if weight.ndim > 1:
                size = weight.detach().norm()
                lr = published_lr(step, 0.2)
                change = (change + 0.1 * weight.detach()) * 0.5 * size / (change.norm() + 0.1 * size)
            momenta[name] = 0.9 * momenta[name] + change
            weight.data -= lr * momenta[name]
    for name, weight in trained(config).items():
        torch.testing.assert_close(weight, module.get_parameter(name).detach(), rtol=1e-6, atol=1e-8)


def test_a_predictor_off_the_schedule_trains_as_in_simsiam() -> None:
    groups = (GroupConfig(of="predictor", follows_schedule=False),)
    config = SGDConfig(lr=0.05, weight_decay=1e-2, decay_all=True, groups=groups)
    module = small()
    ones = {
        name: torch.optim.SGD([w], lr=0.05, momentum=0.9, weight_decay=1e-2) for name, w in module.named_parameters()
    }
    for step in range(STEPS):
        give_gradients(module, step)
        for name, one in ones.items():
            constant = name.startswith("objective.predictor")
            one.param_groups[0]["lr"] = 0.05 if constant else published_lr(step, 0.05)
            one.step()
    for name, weight in trained(config).items():
        torch.testing.assert_close(weight, module.get_parameter(name).detach(), rtol=1e-12, atol=1e-12)
