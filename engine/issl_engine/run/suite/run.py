"""A whole suite on one encoder, part by part."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from issl_engine.probing.probes.base import ProbeResult
from issl_engine.recipe.suite import Suite
from issl_engine.run.kept import Kept
from issl_engine.run.suite.fitted_probes import FittedProbes
from issl_engine.run.suite.own_source import Part, own_source_parts
from issl_engine.run.suite.robustness import in_setting
from issl_engine.run.suite.subject import Subject
from issl_engine.sources.base import SourceConfig, SourceError

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class SuiteOutcome:
    """What came of a suite. ``left_out``: the setting of an optional source that could not be loaded → why."""

    results: list[ProbeResult]
    left_out: dict[str, str]


def run_suite(
    suite: Suite, subjects: Sequence[Subject], own_source: SourceConfig, *, folder: Path | None,
    on_part: Callable[[SuiteOutcome], None],
) -> SuiteOutcome:  # fmt: skip
    """All parts of ``suite`` on each of ``subjects``, the networks of one checkpoint; those that ``folder`` keeps are
    not made again. ``on_part`` gets, after each part, what there is so far.

    Raises Mistake for a user's mistake, SourceError for a source that is not optional.
    """
    kept = Kept(folder)
    done: dict[str, list[ProbeResult]] = {}
    left_out: dict[str, str] = {}

    def outcome() -> SuiteOutcome:
        return SuiteOutcome(results=[result for part in done.values() for result in part], left_out=left_out)

    for part in _parts(suite, subjects, own_source, done, left_out):
        made: list[Part] = []

        def make(part: Part = part, made: list[Part] = made) -> list[ProbeResult]:
            _log.info("%s: %s", suite.name, part.name)
            made.append(part)
            return part.make()

        done[part.name] = kept.results(part.file, part.key, make)
        if not made:
            _log.info("%s: %s: done before", suite.name, part.name)
        on_part(outcome())
    return outcome()


def _parts(
    suite: Suite, subjects: Sequence[Subject], own_source: SourceConfig, done: Mapping[str, list[ProbeResult]],
    left_out: dict[str, str],
) -> Iterator[Part]:  # fmt: skip
    """A source is loaded when its turn comes, so that one is in memory at a time."""
    if suite.own_source:
        own = own_source.load()
        for subject in subjects:
            yield from own_source_parts(subject, suite, own, done)
    for one in suite.sources:
        try:
            dataset = one.source.load()
        except SourceError as error:
            if not one.optional:
                raise SourceError(f"source '{one.setting}' of the suite: {error}") from error
            _log.warning("%s is left out: %s", one.setting, error)
            left_out[one.setting] = str(error)
            continue
        for subject in (one_network.judged_by(one.metric) for one_network in subjects):
            yield Part(
                name=subject.named(f"source {one.setting}"),
                key=subject.key(dataset, probes=subject.probe_keys),
                make=partial(_transferred, FittedProbes(subject, dataset), one.setting),
            )


def _transferred(probes: FittedProbes, setting: str) -> list[ProbeResult]:
    return in_setting(probes.on_clean(), setting)
