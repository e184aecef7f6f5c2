"""What recipes of earlier versions, as checkpoints hold them, are called today."""

from typing import Any


def as_of_today(recipe: Any) -> Any:
    """A recipe (as JSON) with components under their present names; anything else as it is.

    Until 0.2 the probe ``linear`` was the one by SGD, ``linear_sgd``.
    """
    if not isinstance(recipe, dict) or not isinstance(recipe.get("probes"), list):
        return recipe
    return recipe | {"probes": [_probe(probe) for probe in recipe["probes"]]}


def _probe(probe: Any) -> Any:
    if not isinstance(probe, dict):
        return probe
    if probe.get("name") == "linear" and "lrs" in probe:
        return probe | {"name": "linear_sgd"}
    return probe | {"probe": _probe(probe["probe"])} if "probe" in probe else probe
