"""Optimiser state from a checkpoint of another memory order, or from an optimiser that was not fused."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from issl_engine.optim.adam import AdamConfig
from issl_engine.optim.adamw import AdamWConfig
from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.larc import LARCConfig
from issl_engine.optim.loaded_state import fit_loaded_state
from issl_engine.optim.sgd import SGDConfig

CONFIGS = [SGDConfig(lr=0.1), AdamConfig(lr=0.1), AdamWConfig(lr=0.1), LARCConfig(lr=0.1)]


def weight_of(memory_format: torch.memory_format) -> nn.Parameter:
    values = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return nn.Parameter(values.to(memory_format=memory_format))


def gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 2, 2, generator=generator) for _ in range(4)]


def step(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradient: Tensor) -> None:
    weight.grad = torch.empty_like(weight).copy_(gradient)
    optimizer.step()


def make(config: OptimizerConfig, weight: nn.Parameter) -> torch.optim.Optimizer:
    optimizer = config.build([("weight", weight)], no_decay=set(), lr=0.1)
    fit_loaded_state(optimizer)
    return optimizer


def not_fused(state: dict[str, Any]) -> dict[str, Any]:
    """As an optimiser that is not fused saves it."""
    for group in state["param_groups"]:
        if "fused" in group:
            group["fused"] = None
    return state


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("fused", [True, False])
def test_training_goes_on_the_same_in_another_memory_order(config: OptimizerConfig, fused: bool) -> None:
    plain = weight_of(torch.contiguous_format)
    whole = make(config, plain)
    for gradient in gradients()[:2]:
        step(whole, plain, gradient)
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    resumed = make(config, last)
    state = copy.deepcopy(whole.state_dict())  # as a file does; counters would be shared otherwise
    resumed.load_state_dict(state if fused else not_fused(state))
    resumed.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    for gradient in gradients()[2:]:
        step(whole, plain, gradient)
        step(resumed, last, gradient)
    assert last.stride() != plain.stride()
    torch.testing.assert_close(last.detach(), plain.detach())
