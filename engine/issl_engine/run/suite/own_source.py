"""The parts of a suite on the recipe's own source: probes, the same under corruptions, fine-tuning."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from issl_engine.probing.fine_tuning.accuracy import LabelledImages, fine_tuned_accuracy
from issl_engine.probing.fine_tuning.tuner import FineTuningConfig, Tuner
from issl_engine.probing.judging.results import results_to_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.recipe.suite import Suite
from issl_engine.run.suite.fitted_probes import FittedProbes
from issl_engine.run.suite.robustness import in_setting, summarised
from issl_engine.run.suite.subject import Subject
from issl_engine.sources.base import Dataset
from issl_engine.views.corruptions import CorruptionKind, CorruptionsConfig

PROBES = "probes"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a suite, kept by itself. ``name`` is its own in the suite; ``key``: all that its results depend on,
    for JSON."""

    name: str
    key: dict[str, Any]
    make: Callable[[], list[ProbeResult]]

    @property
    def file(self) -> str:
        """Where its results are kept in the suite's folder; names that differ have files that differ."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:6]
        return f"parts/{re.sub(r'[^A-Za-z0-9.]+', '_', self.name).strip('_')}-{digest}.json"


def own_source_parts(
    subject: Subject, suite: Suite, dataset: Dataset, done: Mapping[str, list[ProbeResult]]
) -> Iterator[Part]:
    """In order; ``done`` holds the results of the parts before by the time that one is asked for."""
    if subject.probes:
        probes = FittedProbes(subject, dataset)
        key = subject.key(dataset, probes=subject.probe_keys)
        yield Part(name=subject.named(PROBES), key=key, make=probes.on_clean)
        if suite.corruptions is not None:
            yield from _corruption_parts(probes, suite.corruptions, done)
    if suite.fine_tuning is not None:
        settings = suite.fine_tuning.model_dump(mode="json", exclude={"label_fractions"})
        for fraction in dict.fromkeys(suite.fine_tuning.label_fractions):
            yield Part(
                name=subject.named(f"fine-tuning on {100 * fraction:g} % of labels"),
                key=subject.key(dataset, fine_tuning=settings, fraction=fraction),
                make=partial(_fine_tuned, subject, suite.fine_tuning, dataset, fraction),
            )


def _corruption_parts(
    probes: FittedProbes, config: CorruptionsConfig, done: Mapping[str, list[ProbeResult]]
) -> Iterator[Part]:
    subject, dataset = probes.subject, probes.dataset
    clean = subject.named(PROBES)
    names = {kind: subject.named(f"corruption {kind.replace('_', ' ')}") for kind in config.kinds}
    settings = config.model_dump(mode="json", exclude={"kinds"})
    for kind, name in names.items():
        key = subject.key(dataset, probes=subject.probe_keys, corruptions=settings, kind=kind)
        yield Part(name=name, key=key, make=partial(_corrupted, probes, config, kind))
    corrupted = [result for name in names.values() for result in done[name]]
    yield Part(
        name=subject.named("all corruptions"),
        key={"clean": results_to_json(done[clean]), "corrupted": results_to_json(corrupted)},
        make=partial(summarised, done[clean], corrupted),
    )


def _corrupted(probes: FittedProbes, config: CorruptionsConfig, kind: CorruptionKind) -> list[ProbeResult]:
    """The probes, fitted on clean images and judged under each strength of one corruption."""
    results = []
    for corruption in config.of_kind(kind):
        maker = probes.subject.maker.corrupted(corruption)
        results += in_setting(probes.under(maker), corruption.describe())
    return results


def _fine_tuned(
    subject: Subject, config: FineTuningConfig, dataset: Dataset, fraction: float
) -> list[ProbeResult]:  # fmt: skip
    maker = subject.maker
    assert maker.encoder is not None
    images = subject.images(dataset)
    tuner = Tuner(
        encoder=maker.encoder, num_classes=dataset.num_classes, config=config, preprocessing=maker.preprocessing,
        device=maker.device, num_threads=maker.num_threads, seed=subject.seed,
    )  # fmt: skip
    result = fine_tuned_accuracy(
        tuner, LabelledImages(train=images.fitted, judged=images.judged, judged_split=images.judged_split),
        label_fraction=fraction, held_out_fraction=subject.evaluation.held_out_fraction, batch_size=maker.batch_size,
    )  # fmt: skip
    return [replace(result, preprocessing=maker.describe()).of_network(subject.network)]
