"""Whether a probe has seen what judges it: by content before it is fitted, and by trial.

Letters: N images, D width of the representation.
"""

import logging
from dataclasses import replace

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import CPU, Features, with_rows_of
from issl_engine.probing.judging.shared_images import Chosen, describe_pairs, shared_images
from issl_engine.probing.judging.splits import Splits
from issl_engine.probing.probes.base import FitData, ProbeConfig, Value
from issl_engine.sources.base import TargetTable

_log = logging.getLogger("issl_engine")


class LeakError(Mistake):
    """A probe depends on the images that judge it, or was fitted on some of them: one sentence."""


def check_no_shared_images(fitted: Chosen, judged: Chosen, *, allowed: bool) -> None:
    """Raises LeakError where a judged image is, byte by byte, one of the fitted; warns where that is ``allowed``."""
    pairs = shared_images(fitted, judged)
    if not pairs:
        return
    found = f"{len(pairs)} of {len(judged)} judged images are in the training split too"
    named = describe_pairs(pairs, fitted.images, judged.images)
    if allowed:
        _log.warning("%s (%s)", found, named)
        return
    raise LeakError(
        f"{found} ({named}), so the probes' numbers would be too good; remove them "
        "from one split, or set evaluation.allow_shared_images to true if the benchmark is so defined"
    )


def check_blind(probe: ProbeConfig, splits: Splits, *, num_classes: int, seed: int, device: torch.device = CPU) -> None:
    """Fits the probe anew with other images and labels in the judged images' place, and after it has judged each.

    Neither what was chosen nor a fitted weight may change. Costs three fits, and a copy of the features where the
    judged ones lie in the same store as the others. Raises LeakError, and Mistake as the probe does.
    """
    expected: dict[str, Tensor | Value] | None = None
    for trial in (splits, with_other_judged(splits), splits):
        data = FitData(
            train=trial.train, held_out=trial.held_out, num_classes=num_classes, seed=seed, device=device,
            crops=trial.crops,
        )  # fmt: skip
        fitted = probe.fit(data)
        state = fitted.state()
        expected = state if expected is None else expected
        changed = [key for key in expected if key not in state or not _same(expected[key], state[key])]
        if changed or len(state) != len(expected):
            raise LeakError(
                f"the probe {probe.name} depends on the images that judge it: with others in their place "
                f"{', '.join(changed[:3]) or 'what it holds'} changed; fit may use nothing but what it is given"
            )
        fitted.judge(trial.judged)


def with_other_judged(splits: Splits) -> Splits:
    """Other rows and labels in the judged images' place: wherever they lie, in the store of the others too."""
    judged = splits.judged
    rows_ND = -3 * judged.x_ND.flip(0) + 1
    train, held_out, judged = with_rows_of(judged, rows_ND, [splits.train, splits.held_out, judged])
    order_N = torch.arange(len(judged)).roll(1)
    return replace(splits, train=train, held_out=held_out, judged=relabelled(judged, order_N))


def relabelled(features: Features, order_N: Tensor) -> Features:
    """The same rows, each with the label and targets of the image at ``order_N``."""

    def moved(table: TargetTable | None) -> TargetTable | None:
        return None if table is None else table.subset(order_N.numpy())

    return features.with_targets(
        moved(features.values), moved(features.attributes), labels_N=features.labels_N[order_N]
    )


def _same(first: Tensor | Value, second: Tensor | Value) -> bool:
    """On a GPU sums may differ in their last bits from one fit to the next."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape:
            return False
        if first.device.type == "cpu":
            return torch.equal(first.nan_to_num(), second.nan_to_num())
        return torch.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True)
    return first == second
