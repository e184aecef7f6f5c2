"""From results under single corruptions to one number a probe (Hendrycks & Dietterich 2019, section 4.2).

The mean corruption error here is not divided by another network's, as AlexNet's is no yardstick for small images; the
drop is relative to the clean accuracy.
"""

from dataclasses import replace
from statistics import fmean

from issl_engine.probing.probes.base import ProbeResult

OVER_ALL = "all corruptions"


def summarised(clean: list[ProbeResult], corrupted: list[ProbeResult]) -> list[ProbeResult]:
    """For each clean top-1: the mean error over all corruptions and strengths, and the share of the clean top-1 that
    they take away, both in percent. ``corrupted`` holds, for each corruption, as many results as ``clean`` and in its
    order."""
    assert len(corrupted) % len(clean) == 0
    summary = []
    for place, result in enumerate(clean):
        if result.metric != "top1":
            continue
        values = [other.value for other in corrupted[place :: len(clean)]]
        mean = fmean(values)
        whole = replace(result, setting=_joined(result.setting, OVER_ALL), interval=None, draws=(), held_out_value=None)
        summary.append(replace(whole, metric="mean_corruption_error", value=100 - mean))
        if result.value > 0:
            summary.append(replace(whole, metric="relative_drop", value=100 * (result.value - mean) / result.value))
    return summary


def in_setting(results: list[ProbeResult], setting: str) -> list[ProbeResult]:
    """The results, with ``setting`` added to what sets each apart."""
    return [replace(result, setting=_joined(result.setting, setting)) for result in results]


def _joined(first: str, second: str) -> str:
    return ", ".join(part for part in (first, second) if part)
