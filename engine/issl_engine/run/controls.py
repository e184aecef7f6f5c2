"""The controls of each arm: its own encoder untrained, and the raw pixels of its images.

A control is kept by what it depends on, so arms that agree share one, and an arm with another encoder has its own.
"""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from issl_engine.diagnosis.diagnose import diagnose
from issl_engine.diagnosis.measure import as_json
from issl_engine.layout import CONTROLS, RAW_PIXELS, UNTRAINED, control_folder
from issl_engine.models.encoders.base import Encoder
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.run.arm import probe_encoder
from issl_engine.run.dataset import load_dataset
from issl_engine.run.kept import Kept, digest_of, write_json
from issl_engine.run.made_of import diagnosed_by, probed_by
from issl_engine.run.maps import keep_map
from issl_engine.run.probed import keep_probes
from issl_engine.training.build import build_encoder

_log = logging.getLogger("issl_engine")


def run_controls(recipe: Recipe, run: Path, arm: Path, seed: int, ranks: Ranks) -> None:
    """Makes the controls of the arm in the folder ``arm`` that are not there yet, and names them in its controls.json.

    A recipe without probes compares nothing, so it leaves the names that are there. Call it on the first rank alone.
    """
    if not recipe.probes and (arm / CONTROLS).exists():
        return
    untrained: Encoder = build_encoder(recipe, seed).to(ranks.device)
    of = recipe.model_dump(mode="json", include={"encoder"}) | {"image_size": recipe.views.largest_size}
    named = {UNTRAINED: _control(UNTRAINED, of, untrained, recipe, run, seed, ranks) | {"dim": untrained.dim}}
    if recipe.probes:
        named[RAW_PIXELS] = _control(RAW_PIXELS, {}, None, recipe, run, seed, ranks)
    write_json(arm / CONTROLS, named)


def _control(
    kind: str, of: dict[str, Any], encoder: nn.Module | None, recipe: Recipe, run: Path, seed: int, ranks: Ranks
) -> dict[str, Any]:
    """Where the control lies below ``run``, and the file of its diagnostics if it has one."""
    dataset = load_dataset(recipe)
    probed = probed_by(recipe, dataset, seed) | {"encoder": of}
    # A new version replaces a control where it lies; all else that may set two arms apart gives each its own.
    apart = {key: value for key, value in probed.items() if key not in ("issl_engine", "seed")}
    place = control_folder(kind, digest_of(apart), seed)
    kept = Kept(run / place)
    if recipe.probes:

        def results() -> list[ProbeResult]:
            _log.info("seed %d: probing the control '%s'", seed, kind)
            return probe_encoder(encoder, recipe, dataset, seed=seed, ranks=ranks)

        keep_probes(kept, probed, recipe, dataset, seed, results)
        keep_map(
            kept, Kept(run), recipe, of=of, encoder=lambda: encoder, dataset=dataset, seed=seed, device=ranks.device
        )  # fmt: skip
    if encoder is None or recipe.diagnostics.after_images is None:
        return {"folder": place}
    measured = diagnosed_by(recipe, dataset, seed) | {"encoder": of}
    # Arms with other views share the probes' results, not these.
    name = f"diagnostics-{digest_of({key: measured[key] for key in ('views', 'diagnostics')})}.json"

    def diagnosis() -> dict[str, Any]:
        _log.info("%s: measuring the representation", run / place)
        return as_json(diagnose(encoder, recipe, dataset, seed=seed, device=ranks.device))

    kept.json(name, measured, diagnosis)
    return {"folder": place, "diagnostics": name}
