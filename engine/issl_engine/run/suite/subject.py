"""The encoder that a suite evaluates, and how: preprocessing, probes, seed, where features are kept."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from issl_engine.probing.config import EvaluationConfig, Network
from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.probing.judging.evaluate import make_splits
from issl_engine.probing.judging.splits import ImageSplits, Splits, split_images
from issl_engine.probing.probes.base import ProbeConfig
from issl_engine.recipe.schema import Recipe
from issl_engine.recipe.suite import Suite
from issl_engine.run.made_of import measured_on
from issl_engine.sources.base import Dataset
from issl_engine.weights.open_encoder import OpenedEncoder

FORMAT = 1
"""Raise it whenever a part would give other results than before."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What all parts of a suite share."""

    maker: FeatureMaker
    evaluation: EvaluationConfig
    probes: tuple[ProbeConfig, ...]
    seed: int
    network: Network = "student"

    @staticmethod
    def of(
        suite: Suite, opened: OpenedEncoder, recipe: Recipe, *, seed: int, device: torch.device,
        cache: FeatureCache | None,
    ) -> "Subject":  # fmt: skip
        """Evaluation, probes and normalisation are the recipe's where the suite has none of its own."""
        evaluation = suite.evaluation or recipe.evaluation
        maker = FeatureMaker(
            encoder=opened.encoder.to(device), encoder_key=encoder_key(opened),
            preprocessing=replace(recipe.preprocessing, resize=evaluation.resize, crop=evaluation.crop), device=device,
            batch_size=evaluation.batch_size, num_threads=recipe.data.decode_threads, cache=cache,
        )  # fmt: skip
        probes = recipe.probes if suite.probes is None else suite.probes
        if recipe.objective.uses_ema_teacher:
            probes = tuple(probe for probe in probes if probe.is_for(opened.network))
        return Subject(maker=maker, evaluation=evaluation, probes=probes, seed=seed, network=opened.network)

    def judged_by(self, metric: str | None) -> "Subject":
        """The same, its probes of classes judged by this metric alone; None leaves them theirs."""
        if metric is None:
            return self
        keys = {"metrics": (metric,)}
        probes = [
            probe.model_copy(update=keys) if "metrics" in type(probe).model_fields else probe for probe in self.probes
        ]  # fmt: skip
        return replace(self, probes=tuple(probes))

    def named(self, part: str) -> str:
        """A part's name: a suite of two networks has each part twice."""
        return part if self.network == "student" else f"{part}, {self.network}"

    @cached_property
    def probe_keys(self) -> list[dict[str, Any]]:
        """The probes' settings, for a part's key."""
        return [probe.model_dump(mode="json") for probe in self.probes]

    def key(self, dataset: Dataset, **others: Any) -> dict[str, Any]:
        """All that the results of a part on ``dataset`` depend on."""
        cache = self.maker.cache
        return measured_on(dataset, self.evaluation, self.maker.preprocessing, self.seed) | {
            "encoder": self.maker.encoder_key,
            "stored": cache.stored if cache else "float32",
            "format": FORMAT,
            **({} if self.network == "student" else {"network": self.network}),
            **others,
        }

    def splits(self, dataset: Dataset) -> Splits:
        """Features of what probes are fitted on, chosen by and judged on.

        Raises Mistake where a test image is in the training split too.
        """
        return make_splits(self.maker, dataset, self.evaluation, self.seed)

    def images(self, dataset: Dataset) -> ImageSplits:
        """Which images are fitted on and judged."""
        return split_images(dataset, self.evaluation, self.seed)


def encoder_key(opened: OpenedEncoder) -> str:
    """SHA-256 over weights and architecture: its settings, and what the module prints of itself (strides and the like
    are not in the weights)."""
    architecture = [opened.config.model_dump_json(), str(opened.image_size), str(opened.encoder)]
    return hashlib.sha256("\n".join([opened.digest, *architecture]).encode()).hexdigest()
