"""What probes of classes have in common: the metrics by which they are judged."""

from typing import Annotated

from pydantic import Field

from issl_engine.probing.judging.class_task import ClassMetric, ClassTask
from issl_engine.probing.probes.grid import GridProbeConfig


class ClassProbeConfig(GridProbeConfig):
    """Base of probes that tell the class of an image."""

    metrics: Annotated[tuple[ClassMetric, ...], Field(min_length=1)] = ("top1",)
    """What is reported, in percent: top1 (the class with the largest output), top5 (the class is among the five
    largest), mean_per_class (top1 of each class, averaged over classes). The first one chooses the hyper-parameters."""

    @property
    def task(self) -> ClassTask:
        return ClassTask(self.metrics)
