"""What results depend on, as the keys that ``kept`` compares."""

from collections.abc import Mapping
from typing import Any

import issl_engine
from issl_engine.probing.config import EvaluationConfig, Network
from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import content_of
from issl_engine.sources.base import Dataset
from issl_engine.views.preprocessing import Preprocessing


def measured_on(
    dataset: Dataset, evaluation: EvaluationConfig, preprocessing: Preprocessing, seed: int
) -> dict[str, Any]:
    """What all measurements of a frozen encoder depend on, besides the encoder: which network it is, its own key says
    (``network_key``)."""
    return {
        "issl_engine": issl_engine.__version__,
        "images": content_of(dataset),
        "evaluation": evaluation.model_dump(mode="json", exclude={"batch_size", "network", "over_training"}),
        "preprocessing": preprocessing.as_json(),
        "seed": seed,
    }


def network_key(weights: Mapping[Network, str]) -> dict[str, Any]:
    """The encoders that are measured: network → SHA-256 of the file of its weights. The student alone is named by the
    latter, as an encoder is that has no teacher beside it."""
    return {"encoder": weights["student"] if list(weights) == ["student"] else dict(weights)}


def measured_by(recipe: Recipe, dataset: Dataset, seed: int) -> dict[str, Any]:
    """``measured_on`` of a recipe's own evaluation."""
    return measured_on(dataset, recipe.evaluation, recipe.preprocessing, seed)


def probed_by(recipe: Recipe, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What the results of a recipe's probes depend on, besides the encoder."""
    return measured_by(recipe, dataset, seed) | recipe.model_dump(mode="json", include={"probes"})


def diagnosed_by(recipe: Recipe, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What a recipe's diagnostics after training depend on, besides the encoder and objective."""
    after = recipe.diagnostics.model_dump(include={"after_images", "after_views"})
    views = recipe.model_dump(mode="json", include={"views"})
    network = {} if recipe.evaluation.shown_network == "student" else {"network": recipe.evaluation.shown_network}
    return measured_by(recipe, dataset, seed) | views | {"diagnostics": after} | network
