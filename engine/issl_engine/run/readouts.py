"""Probes on what an objective offers them in place of the representation (simplices at several temperatures)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from issl_engine.objectives.base import Readout
from issl_engine.probing.probes.base import ProbeResult

ProbeAll = Callable[[nn.Module], list[ProbeResult]]
"""The probes' results on an encoder, always in the same order."""


def probe_readouts(encoder: nn.Module, readouts: Sequence[Readout], probe_all: ProbeAll) -> list[ProbeResult]:
    """The results of every probe on that reading for which its held-out score is highest: the reading is one more axis
    of the probe's grid. A result that no held-out image chose (few labels) is given for every reading, which its
    setting names. Without readouts: the results on the encoder itself.

    Every reading is probed, so it takes as many times as long as there are readings.
    """
    if not readouts:
        return probe_all(encoder)
    found = [[_named(one, readout, readouts) for one in _probed(encoder, readout, probe_all)] for readout in readouts]
    results: list[ProbeResult] = []
    for same in zip(*found, strict=True):
        scores = [one.held_out_value for one in same]
        if any(score is None for score in scores):
            results += [_set_apart(one, readout) for one, readout in zip(same, readouts, strict=True)]
        else:
            results.append(max(same, key=lambda one: one.held_out_value or 0.0))
    return results


def _probed(encoder: nn.Module, readout: Readout, probe_all: ProbeAll) -> list[ProbeResult]:
    return probe_all(nn.Sequential(encoder, readout.module))


def _named(result: ProbeResult, readout: Readout, readouts: Sequence[Readout]) -> ProbeResult:
    values = ", ".join(f"{one.value:g}" for one in readouts)
    grid = f"{readout.name} {{{values}}} x {result.grid}" if result.grid else f"{readout.name} {{{values}}}"
    return replace(result, chosen=result.chosen | {f"readout_{readout.name}": readout.value}, grid=grid)


def _set_apart(result: ProbeResult, readout: Readout) -> ProbeResult:
    words = f"{readout.name} {readout.value:g}"
    return replace(result, setting=f"{result.setting}, {words}" if result.setting else words)
