"""The parameter groups of a torch optimiser: which weights decay, by how much, and at which rate each learns.

Beside torch's own entries a group has three of ours, which ``rates.py`` reads at every step: ``lr_factor``,
``follows_schedule``, and ``follows_decay_schedule``.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from issl_engine.mistakes import Mistake
from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.group_config import GroupConfig, is_bias_or_norm


@dataclass(frozen=True, kw_only=True)
class SplitParameters:
    """The trainable parameters with weight decay and those without, by name, in the model's order."""

    decayed: dict[str, nn.Parameter]
    undecayed: dict[str, nn.Parameter]


@dataclass(frozen=True, kw_only=True)
class _Treatment:
    """What the weights of one group have in common; the fields are the group's entries."""

    weight_decay: float
    lr_factor: float
    follows_schedule: bool
    follows_decay_schedule: bool


def parameter_groups(
    parameters: NamedParameters, *, no_decay: set[str], config: OptimizerConfig, lr: float
) -> list[dict[str, Any]]:
    """One group for all weights that are treated alike, those that decay first; ``lr`` is the peak learning rate.

    ``no_decay`` names never decay. Raises Mistake for a group of the recipe that no weight is left for.
    """
    split = split_by_decay(parameters, no_decay=no_decay, decay_all=config.decay_all)
    alike: dict[_Treatment, list[nn.Parameter]] = {}
    used: list[GroupConfig] = []
    for part, decays in ((split.decayed, True), (split.undecayed, False)):
        for name, parameter in part.items():
            own = _first_that_has(config.groups, name, parameter)
            used += [] if own is None else [own]
            treatment = _treatment(config, own, decays=decays, may_decay=name not in no_decay)
            alike.setdefault(treatment, []).append(parameter)
    for group in config.groups:
        if group not in used:
            raise Mistake(
                f"optimizer.groups: no trainable weight is left for the group of {group.of}, as the groups before it "
                "took all; change their order or leave it out"
            )
    return [
        {"params": members, "lr": lr * treatment.lr_factor, **asdict(treatment)}
        for treatment, members in alike.items()
    ]  # fmt: skip


def _first_that_has(groups: Iterable[GroupConfig], name: str, parameter: nn.Parameter) -> GroupConfig | None:
    return next((group for group in groups if group.has(name, parameter)), None)


def _treatment(config: OptimizerConfig, own: GroupConfig | None, *, decays: bool, may_decay: bool) -> _Treatment:
    if own is None or own.weight_decay is None:
        decay = config.weight_decay if decays else 0.0
    else:
        decay = own.weight_decay if decays or (may_decay and own.of == "biases_and_norms") else 0.0
    return _Treatment(
        weight_decay=decay,
        lr_factor=1.0 if own is None else own.lr_factor,
        follows_schedule=own is None or own.follows_schedule,
        follows_decay_schedule=decays and (own is None or own.weight_decay is None),
    )


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
