"""Which weights decay, and which do not."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from issl_engine.optim.base import NamedParameters


@dataclass(frozen=True, kw_only=True)
class SplitParameters:
    """The trainable parameters with weight decay and those without, by name, in the model's order."""

    decayed: dict[str, nn.Parameter]
    undecayed: dict[str, nn.Parameter]

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The parameter groups of a torch optimiser; a part without parameters gives no group."""
        parts = ((self.decayed, weight_decay), (self.undecayed, 0.0))
        return [{"params": list(part.values()), "weight_decay": decay} for part, decay in parts if part]


def split_by_decay(parameters: NamedParameters, *, no_decay: set[str], decay_all: bool) -> SplitParameters:
    """Sorts trainable parameters: ``no_decay`` names never decay, biases and norms only if ``decay_all``."""
    by_name = dict(parameters)
    unknown = no_decay - by_name.keys()
    assert not unknown, f"no_decay names no parameter of the model: {sorted(unknown)}"
    trainable = {name: parameter for name, parameter in by_name.items() if parameter.requires_grad}
    undecayed = {
        name: parameter
        for name, parameter in trainable.items()
        if name in no_decay or (is_bias_or_norm(parameter) and not decay_all)
    }
    decayed = {name: parameter for name, parameter in trainable.items() if name not in undecayed}
    return SplitParameters(decayed=decayed, undecayed=undecayed)


def is_bias_or_norm(parameter: nn.Parameter) -> bool:
    """Biases, and gains of normalisation layers, are the parameters with at most one dimension."""
    return parameter.ndim <= 1
