"""What the page's script draws, as JSON-able data: scores, curves, diagnostics and feature maps.

Letters: M images of a map, K neighbours.
"""

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.report.columns import Column
from issl_engine.report.feature_map import FeatureMap, read_feature_map
from issl_engine.report.run_folder import ArmRuns, Run, SeedRun
from issl_engine.report.thumbnails import Thumbnails, read_thumbnails

MOST_POINTS = 60_000
"""Numbers of all curves together; beyond, only every so-manieth logged line is drawn."""
FEWEST_LINES = 50
"""Of a seed, however many curves there are."""
DIGITS = 5
"""Significant digits of a number that is drawn."""


def page_data(run: Run) -> dict[str, Any]:
    """All but the feature maps, which do not change while a run is watched."""
    columns = run.columns
    every = _stride(run)
    return {
        "status": run.status,
        "under_way": any(one.status == "running" for one in run.each),
        "columns": [{"title": column.title, "lower": column.lower_is_better} for column in columns],
        "rows": [_row(row, index, columns, every) for index, row in enumerate(run.rows)],
    }


def map_data(run: Run) -> dict[str, Any]:
    """Maps of the first seed that has one in each row, and the thumbnails that they show."""
    maps, sprites = [], {}
    for index, row in enumerate(run.rows):
        found = _first_map(row)
        if found is None:
            continue
        seed, feature_map = found
        if feature_map.sprite not in sprites:
            sprites[feature_map.sprite] = read_thumbnails(row.folder / Path(feature_map.sprite).name)
        if sprites[feature_map.sprite] is not None:
            maps.append(_map(index, seed, feature_map))
    shown = {name: _sprite(thumbnails) for name, thumbnails in sprites.items() if thumbnails is not None}
    return {"maps": maps, "sprites": shown}


def _first_map(row: ArmRuns) -> tuple[int, FeatureMap] | None:
    for seed in row.seeds:
        found = read_feature_map(seed.feature_map) if seed.feature_map else None
        if found is not None:
            return seed.seed, found
    return None


def _stride(run: Run) -> int:
    """Every how-manieth logged line is drawn."""
    seeds = [seed for arm in run.arms for seed in arm.seeds if seed.metrics]
    if not seeds:
        return 1
    numbers = sum(len(seed.metrics) * len(seed.metrics[-1]) for seed in seeds)
    longest = max(len(seed.metrics) for seed in seeds)
    return max(1, min(math.ceil(numbers / MOST_POINTS), longest // FEWEST_LINES))


def _row(row: ArmRuns, index: int, columns: list[Column], every: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "run": row.run,
        "objective": row.objective,
        "control": row.objective is None,
        "index": index,
        "scores": [_score(row, column) for column in columns],
        "seeds": [_seed(seed, every) for seed in row.seeds],
    }


def _score(row: ArmRuns, column: Column) -> dict[str, Any] | None:
    score = row.score(column)
    if score is None:
        return None
    results = row.results(column)
    dots = results[0].draws if len(results) == 1 and len(results[0].draws) > 1 else [one.value for one in results]
    return {
        "mean": _rounded(score.mean),
        "ends": None if score.ends is None else [_rounded(end) for end in score.ends],
        "text": score.text(column.digits),
        "dots": [_rounded(dot) for dot in dots],
    }


def _seed(seed: SeedRun, every: int) -> dict[str, Any]:
    lines = seed.metrics
    kept = [line for place, line in enumerate(lines) if (len(lines) - 1 - place) % every == 0]  # the last always
    keys = dict.fromkeys(key for line in kept for key, value in line.items() if isinstance(value, int | float))
    return {
        "seed": seed.seed,
        "every": every,
        "curves": {key: [_rounded(line.get(key)) for line in kept] for key in keys},
        "spectra": {
            name: [_rounded(value) for value in values]
            for name, values in (seed.diagnostics.spectra.items() if seed.diagnostics else ())
        },
    }


def _rounded(value: Any) -> float | int | None:
    """To DIGITS significant digits; None for what is no finite number, which JSON cannot hold."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _map(index: int, seed: int, feature_map: FeatureMap) -> dict[str, Any]:
    return {
        "row": index,
        "seed": seed,
        "sprite": feature_map.sprite,
        "pca": _places(feature_map.pca_M2, one_scale=True),
        "explained": [_rounded(float(share)) for share in feature_map.explained_2],
        "umap": None if feature_map.umap_M2 is None else _places(feature_map.umap_M2, one_scale=False),
        "neighbours": _encoded(feature_map.neighbours_MK.astype("<i2")),
        "cosines": _encoded(np.round(feature_map.cosines_MK * 10_000).astype("<i2")),
        "num_neighbours": int(feature_map.neighbours_MK.shape[1]),
    }


def _places(xy_M2: NDArray[np.float32], *, one_scale: bool) -> str:
    """In the middle of a square of 65535 units. With one scale for both axes distances stay true; UMAP's mean little,
    and fill the square."""
    low_2, high_2 = xy_M2.min(0), xy_M2.max(0)
    spans_2 = high_2 - low_2
    if one_scale:
        spans_2 = np.full(2, spans_2.max())
    unit_M2 = (xy_M2 - (low_2 + high_2) / 2) / np.where(spans_2 > 0, spans_2, 1) + 0.5
    return _encoded(np.round(unit_M2.clip(0, 1) * 65535).astype("<u2"))


def _encoded(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _sprite(thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "src": f"data:image/webp;base64,{base64.b64encode(thumbnails.webp).decode()}",
        "side": thumbnails.side,
        "columns": thumbnails.columns,
        "labels": thumbnails.labels,
        "classes": thumbnails.classes,
    }
