"""Run folders as 'issl-engine run' leaves them, made in milliseconds."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.feature_map import FeatureMap, make_feature_map, write_feature_map
from issl_engine.report.thumbnails import write_captions, write_sprite
from issl_engine.sources.base import Dataset, ImageSet

SEEDS = [0, 1, 2]
CLASSES = ("cat", "dog", "<script>alert('class')</script>")
NUM_IMAGES = 60
SPRITE = "thumbnails-0123456789ab.webp"


def result(value: float, probe: str = "linear", **fields: Any) -> dict[str, Any]:
    return asdict(
        ProbeResult(
            **{
                "probe": probe, "metric": "top1", "value": value, "split": "test", "num_train_images": 100,
                "num_split_images": 50, "held_out_value": value - 1, "chosen": {"lr": 0.1}, "grid": "lr {0.1}",
                "preprocessing": "centre crop 32 px", "seed": 0,
            } | fields
        )
    )  # fmt: skip


def make_run(
    folder: Path, arms: dict[str, float], *, seeds: list[int] = SEEDS, controls: bool = True, status: str = "finished",
    untrained: dict[str, tuple[int, float]] | None = None,
) -> Path:  # fmt: skip
    """Linear probes of each arm: its number plus the seed; kNN five below. ``untrained``: arm → (width, linear probe)
    of its untrained encoder; 512 and 40 where it is left out."""
    folder.mkdir(parents=True)
    record = {
        "recipe": folder.name, "description": "A <b>bold</b> & brave run", "arms": dict.fromkeys(arms, "simclr"),
        "seeds": seeds, "status": status, "started": "2026-01-01T00:00:00", "finished": "2026-01-01T01:00:00",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "recipe.yaml").write_text("name: x # <script>alert(1)</script>\n")
    (folder / "environment.json").write_text(
        json.dumps({"cpu": "a CPU", "cpu_cores": 2, "commit": "abc", "gpus": [], "date": "2026-01-01T00:00:00+00:00"})
    )
    for place, (arm, base) in enumerate(arms.items()):
        for seed in seeds:
            write_arm(folder / arm / f"seed{seed}", base + seed, temperature=0.1 * (place + 1))
    if controls:
        for seed in seeds:
            for arm in arms:
                dim, value = (untrained or {}).get(arm, (512, 40.0))
                named = write_controls(folder, seed, untrained=value, dim=dim)
                (folder / arm / f"seed{seed}" / "controls.json").write_text(json.dumps(named))
    return folder


def write_arm(place: Path, value: float, *, temperature: float) -> None:
    place.mkdir(parents=True)
    lines = [
        {"step": s, "epoch": s / 10, "loss": 5 - s / 50, "lr": 0.1, "images_per_second": 100 + s,
         "data_fraction": 0.1, "device_fraction": 0.8, "host_fraction": 0.1,
         "seconds": 2.0 * s, "online_top1": s, "collapse_loss": 5.1, "diagnostics.rank_me": 3.0 + s / 10}
        for s in range(10, 60, 10)
    ]  # fmt: skip
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "probes.json").write_text(json.dumps([result(value), result(value - 5, "knn")]))
    (place / "resolved.yaml").write_text(f"name: x\nobjective:\n  name: simclr\n  temperature: {temperature:.1f}\n")
    diagnostics = {
        "measures": {"etf_cosine": -0.2, "rank_me": 7.0},
        "optimum": {"etf_cosine": -0.5},
        "spectra": {"representation": [0.5, 0.25, 0.15, 0.1], "projection": [0.9, 0.1]},
    }
    (place / "diagnostics.json").write_text(json.dumps(diagnostics))


def write_controls(run: Path, seed: int, *, untrained: float = 40.0, dim: int = 512) -> dict[str, Any]:
    """Both controls; returns what controls.json says of them."""
    named = {}
    for kind, value in (("untrained", untrained), ("raw_pixels", 20.0)):
        place = f"controls/seed{seed}/{kind}-{dim if kind == 'untrained' else 0:08d}"
        (run / place).mkdir(parents=True, exist_ok=True)
        (run / place / "probes.json").write_text(json.dumps([result(value), result(value - 5, "knn")]))
        named[kind] = {"folder": place}
    named["untrained"] |= {"dim": dim, "diagnostics": "diagnostics-01234567.json"}
    return named


def tiny_dataset(count: int = NUM_IMAGES) -> Dataset:
    """Images of one colour per class."""
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=np.uint8)
    pixels = np.broadcast_to(colours[labels][:, None, None, :], (count, 20, 20, 3))
    images = ImageSet(labels=labels, sizes_HW=np.full((count, 2), 20, dtype=np.int32), pixels=np.array(pixels))
    return Dataset(name="tiny", classes=CLASSES, train=images, test=images)


def add_maps(run: Path) -> None:
    """A map for each arm's first seed, and thumbnails: classes lie apart."""
    dataset = tiny_dataset()
    write_thumbnails(run / SPRITE, dataset, np.arange(NUM_IMAGES))
    for place, arm in enumerate(json.loads((run / "run.json").read_text())["arms"]):
        write_feature_map(run / arm / "seed0" / "feature_map.npz", clustered_map(place))


def write_thumbnails(path: Path, dataset: Dataset, images: NDArray[np.int64]) -> None:
    write_sprite(path, dataset, images)
    write_captions(path.with_suffix(".json"), dataset, images)


def clustered_map(seed: int) -> FeatureMap:
    random = torch.Generator().manual_seed(seed)
    x_MD = torch.randn(NUM_IMAGES, 8, generator=random) * 0.3
    x_MD[torch.arange(NUM_IMAGES), torch.arange(NUM_IMAGES) % len(CLASSES)] += 3
    return make_feature_map(x_MD, sprite=SPRITE)
