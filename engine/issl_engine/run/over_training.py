"""The first probe on checkpoints of the way (``evaluation.over_training``): one result for each, beside the arm's own.

The last checkpoint is among the arm's own results, and its untrained control is the point before training.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from issl_engine.layout import CHECKPOINTS, OVER_TRAINING
from issl_engine.probing.judging.results import results_to_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.run.kept import Kept, first_difference
from issl_engine.training.checkpoints.manifest import checkpoint_name, read_manifest

_log = logging.getLogger("issl_engine")

OF_WEIGHTS = {"encoder", "learner"}
"""Keys of what a result was made of that say which weights."""

Probing = tuple[Mapping[str, Any], Callable[[], list[ProbeResult]]]
"""What the results on a checkpoint depend on, and what makes them."""


def probe_over_training(folder: Path, steps: list[int], probing: Callable[[Path], Probing]) -> None:
    """Keeps the first probe's results of each step in ``folder``/over_training. ``probing`` of a checkpoint.

    A checkpoint that was deleted after it was probed keeps its result while the probe and images stay the same; one
    that was never there (the key came later) is named in a warning.
    """
    kept, checkpoints = Kept(folder / OVER_TRAINING), folder / CHECKPOINTS
    wanted = {f"{checkpoint_name(step)}.json": checkpoints / checkpoint_name(step) for step in steps}
    for path in sorted((folder / OVER_TRAINING).glob("step_*.json")):
        if path.name not in wanted:
            kept.drop(path.name)
    gone = []
    for name, checkpoint in wanted.items():
        if checkpoint.is_dir():
            _probe(kept, name, checkpoint, probing)
        elif not _still_holds(kept, name, wanted, probing):
            kept.drop(name)
            gone.append(checkpoint.name)
    if gone:
        _log.warning(
            "%s: no checkpoint is left of %s, so accuracy over training lacks %s; only training anew makes %s",
            folder, ", ".join(gone), "it" if len(gone) == 1 else "them", "it" if len(gone) == 1 else "them",
        )  # fmt: skip


def _probe(kept: Kept, name: str, checkpoint: Path, probing: Callable[[Path], Probing]) -> None:
    made_of, make = probing(checkpoint)
    manifest = read_manifest(checkpoint)

    def record() -> dict[str, Any]:
        _log.info("%s: probing", checkpoint)
        return {"step": manifest.step, "epoch": manifest.epoch, "results": results_to_json(make())}

    kept.json(name, made_of, record)


def _still_holds(kept: Kept, name: str, wanted: Mapping[str, Path], probing: Callable[[Path], Probing]) -> bool:
    """Whether a result without its checkpoint was made of what one would be made of now, but for the weights."""
    noted = kept.made_of(name)
    other = next((path for path in wanted.values() if path.is_dir()), None)
    if noted is None:
        return False
    if other is None:
        return True  # nothing to compare with: no checkpoint of the way is left
    now = json.loads(json.dumps(dict(probing(other)[0])))  # as the ledger has it
    return first_difference(_but_for_weights(noted), _but_for_weights(now)) is None


def _but_for_weights(made_of: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made_of.items() if key not in OF_WEIGHTS}
