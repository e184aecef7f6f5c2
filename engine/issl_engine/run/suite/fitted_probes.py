"""The probes of a suite on one source, fitted once and judged as often as is asked."""

from dataclasses import replace
from functools import cached_property

from issl_engine.probing.features.features import Features
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.probing.judging.leak_check import check_blind
from issl_engine.probing.judging.splits import Splits
from issl_engine.probing.probes.base import FitData, Fitted, ProbeResult
from issl_engine.run.suite.subject import Subject
from issl_engine.sources.base import Dataset


class FittedProbes:
    """Features and fits are made when they are first needed: a suite that is done needs neither."""

    def __init__(self, subject: Subject, dataset: Dataset) -> None:
        self.subject, self.dataset = subject, dataset

    def on_clean(self) -> list[ProbeResult]:
        """Judged on the images as they are. Raises Mistake as the probes and the features do."""
        return self._judged(self._splits.judged, self.subject.maker)

    def under(self, maker: FeatureMaker) -> list[ProbeResult]:
        """Judged on the same images, as ``maker`` shows them."""
        return self._judged(maker.features(self.subject.images(self.dataset).judged), maker)

    @cached_property
    def _splits(self) -> Splits:
        return self.subject.splits(self.dataset)

    @cached_property
    def _fitted(self) -> list[Fitted]:
        splits, subject = self._splits, self.subject
        data = FitData(
            train=splits.train, held_out=splits.held_out, num_classes=self.dataset.num_classes, seed=subject.seed,
            device=subject.maker.device, crops=splits.crops,
        )  # fmt: skip
        if subject.evaluation.check_leaks:
            for probe in subject.probes:
                check_blind(probe, splits, num_classes=data.num_classes, seed=data.seed, device=data.device)
        return [probe.fit(data) for probe in subject.probes]

    def _judged(self, judged: Features, maker: FeatureMaker) -> list[ProbeResult]:
        subject, text, split = self.subject, maker.describe(), self._splits.judged_split
        return [
            replace(result, split=split, preprocessing=text, protocol=probe.protocol).of_network(subject.network)
            for probe, fitted in zip(subject.probes, self._fitted, strict=True)
            for result in fitted.judge(judged)
        ]
