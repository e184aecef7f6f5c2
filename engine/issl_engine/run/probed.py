"""Probes' results, with which of the judged images each probe of classes told right beside them.

The second file lets arms be compared image by image with a single seed (``report/differences.py``). A bit an image and
probe: 50 000 images are 8 KiB.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from issl_engine.layout import ANSWERS, PROBES
from issl_engine.probing.judging.splits import split_images
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.recipe.schema import Recipe
from issl_engine.report.answers_file import as_json
from issl_engine.report.columns import column_of
from issl_engine.run.kept import Kept
from issl_engine.sources.base import Dataset
from issl_engine.sources.images.digests import images_digest


def keep_probes(
    kept: Kept, key: Mapping[str, Any], recipe: Recipe, dataset: Dataset, seed: int,
    make: Callable[[], list[ProbeResult]],
) -> None:  # fmt: skip
    """Both files, as ``kept`` says; ``make`` is called once at the most."""
    made = cache(make)

    def answers() -> dict[str, Any]:
        judged = split_images(dataset, recipe.evaluation, seed).judged
        right = {column_of(one).key: one.right_N for one in made() if one.right_N is not None and not one.setting}
        return as_json(right, judged=images_digest(judged))

    kept.results(PROBES, key, made)
    kept.json(ANSWERS, key, answers)
