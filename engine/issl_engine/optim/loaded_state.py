"""Brings optimiser state from a checkpoint into the form that fused kernels assume."""

from typing import Any

import torch
from torch import Tensor


def fit_loaded_state(optimizer: torch.optim.Optimizer) -> None:
    """From now on, ``optimizer.load_state_dict`` leaves it fused, its counters beside the weights, and every other
    state in its weight's memory order, whatever wrote the checkpoint.

    On a CPU, fused kernels walk through weight and state side by side without looking at strides: another order (that
    of a run without channels_last, or of ZeRO's flat slices) would mix up the entries, without an error.
    """
    fused = {"fused": True} if "fused" in optimizer.defaults else {}

    def fit(loaded: torch.optim.Optimizer) -> None:
        for group in loaded.param_groups:
            group.update(fused)
            for weight in group["params"]:
                loaded.state[weight].update(_fitted(loaded.state[weight], weight))

    optimizer.register_load_state_dict_post_hook(fit)


def _fitted(state: dict[str, Any], weight: Tensor) -> dict[str, Any]:
    fitted = {}
    for key, value in state.items():
        if key == "step":
            fitted[key] = torch.as_tensor(value, dtype=torch.float32, device=weight.device)
        elif isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
            fitted[key] = torch.empty_like(weight).copy_(value)
    return fitted
