"""Says when the representation collapses, and what to change: reads the diagnostics of metrics.jsonl."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from issl_engine.training.watch.batch_diagnostics import PREFIX
from issl_engine.training.watch.watcher import Watcher

_log = logging.getLogger("issl_engine")

Record = Mapping[str, float]

MEASUREMENTS = 3
"""Measurements in a row that must show a sign before it is reported."""
CONSTANT_STD = 0.01
"""feature_std is 1 for features spread over the sphere; an untrained encoder has above 0.1."""
FEW_DIRECTIONS_SHARE = 0.01
FEW_DIRECTIONS = 1.3
"""Effective rank below this share of the largest, or below this number; small encoders that learn well have 4.5 of 127
(0.035)."""
USED_CLASSES_SHARE = 0.1
MARGINAL_ENTROPY_SHARE = 0.3
"""SwAV and DISSL runs that learn stay above 0.9, DISSL without its entropy falls to 0.2."""
NO_INVARIANCE = 0.95
GENERAL_ADVICE = "lower optimizer.lr, lengthen schedule.warmup_epochs or make training.global_batch_size larger"
"""For objectives that have none of their own."""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Something that has gone wrong with a representation."""

    name: str
    shows: Callable[[Record], bool]
    """Of the measures without their prefix; a measure that is not there shows nothing."""
    sentence: str
    """What is wrong, with measures as fields."""
    advice: str | None = None
    """What to change; None for the objective's own advice."""


SIGNS = (
    Sign(
        name="constant representation",
        shows=lambda found: found.get("feature_std", 1.0) < CONSTANT_STD,
        sentence="all images have nearly the same representation (diagnostics.feature_std {feature_std:.2g})",
    ),
    Sign(
        name="dimensional collapse",
        shows=lambda found: (
            found.get("effective_rank_share", 1.0) < FEW_DIRECTIONS_SHARE
            or found.get("effective_rank", FEW_DIRECTIONS) < FEW_DIRECTIONS
        ),
        sentence="the representation varies in few directions only (diagnostics.effective_rank {effective_rank:.2g}, "
        "{effective_rank_share:.1%} of the largest)",
    ),
    Sign(
        name="dead classes",
        shows=lambda found: (
            found.get("used_classes_share", 1.0) < USED_CLASSES_SHARE
            or found.get("marginal_entropy_share", 1.0) < MARGINAL_ENTROPY_SHARE
        ),
        sentence="images share few classes or prototypes (diagnostics.used_classes_share {used_classes_share:.2f}, "
        "diagnostics.marginal_entropy_share {marginal_entropy_share:.2f})",
    ),
    Sign(
        name="no invariance",
        shows=lambda found: found.get("invariance", 0.0) > NO_INVARIANCE,
        sentence="views of one image are as far apart as different images (diagnostics.invariance {invariance:.2f})",
        advice="weaken views.augmentation, raise the lower end of area in views.groups, lower optimizer.lr or lengthen "
        "schedule.warmup_epochs",
    ),
)
"""What is constant has no other measure, so that one sign is reported and not all."""


class RepresentationAlarm(Watcher):
    """Warns once of each sign that three measurements in a row show, from the end of the warm-up on.

    Before, frozen prototypes and a rising learning rate make a healthy run look ill.
    """

    def __init__(self, advice: str, *, warmup_epochs: float) -> None:
        self.advice = advice
        self.first_epoch = max(1.0, warmup_epochs)
        self._in_a_row = dict.fromkeys((sign.name for sign in SIGNS), 0)
        self._raised: set[str] = set()

    def line_made(self, record: Record) -> None:
        self.observe(record)

    def observe(self, record: Record) -> list[str]:
        """Takes one line of metrics.jsonl; returns the names of the signs that it makes this alarm report."""
        found = {key.removeprefix(PREFIX): value for key, value in record.items() if key.startswith(PREFIX)}
        if not found or record["epoch"] <= self.first_epoch:
            return []
        reported = []
        for sign in SIGNS:
            self._in_a_row[sign.name] = self._in_a_row[sign.name] + 1 if sign.shows(found) else 0
            if self._in_a_row[sign.name] >= MEASUREMENTS and sign.name not in self._raised:
                self._raised.add(sign.name)
                reported.append(sign.name)
                _log.warning(
                    "step %d: %s: %s, at %d measurements in a row; %s",
                    record["step"], sign.name, sign.sentence.format(**found), MEASUREMENTS,
                    sign.advice or self.advice,
                )  # fmt: skip
        return reported
