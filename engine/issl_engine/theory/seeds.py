"""All points of one seed, measured once: a finished seed is kept in a file, so a stopped run goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from issl_engine.theory.points import Point
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.theory.world import draw_world
from issl_engine.whole_file import write_whole


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """What one seed gave."""

    seed: int
    points: tuple[Point, ...]
    seconds: float
    """Wall time."""
    cpu_seconds: float
    """Of all threads: what the wall time would be on one idle core."""


def measured_seeds(
    recipe: TheoryRecipe, folder: Path, *, version: str, jobs: int, on_encoder: Callable[[], None]
) -> Iterator[SeedResult]:
    """Each seed of the recipe as soon as it is there: those kept in ``folder`` first, the others measured and kept.

    ``jobs`` seeds at a time have a process with one thread each; with one job the seeds are measured here.
    ``version`` says which code measured: what other code kept is measured anew, and so is all of code that is not
    committed (its version ends with '+'). ``on_encoder`` is called after each
    trained encoder, with several jobs after each seed for all of it.
    """
    missing = []
    per_seed = recipe.experiment.num_encoders(recipe.setup)
    for seed in recipe.seeds:
        kept = None if version.endswith("+") else _kept(_file(folder, seed), _key(recipe, version))
        if kept is None:
            missing.append(seed)
            continue
        for _ in range(per_seed):
            on_encoder()
        yield kept
    if jobs > 1 and len(missing) > 1:
        found = _in_processes(recipe, missing, jobs)
    else:
        found = ((measure_seed(recipe, seed, on_encoder), 0) for seed in missing)
    for result, encoders in found:
        for _ in range(encoders):
            on_encoder()
        _keep(_file(folder, result.seed), _key(recipe, version), result)
        yield result


def measure_seed(recipe: TheoryRecipe, seed: int, on_encoder: Callable[[], None] = lambda: None) -> SeedResult:
    """Draws the world, trains and measures."""
    began, cpu_began, points = time.perf_counter(), time.process_time(), list[Point]()
    for point in recipe.experiment.points(recipe.setup, draw_world(recipe.world, seed), seed):
        if point is None:
            on_encoder()
        else:
            points.append(point)
    return SeedResult(
        seed=seed, points=tuple(points), seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu_began,
    )  # fmt: skip


def _in_processes(recipe: TheoryRecipe, seeds: Sequence[int], jobs: int) -> Iterator[tuple[SeedResult, int]]:
    encoders = recipe.experiment.num_encoders(recipe.setup)
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting = [pool.submit(measure_seed, recipe, seed) for seed in seeds]
        try:
            for done in as_completed(waiting):
                yield done.result(), encoders
        finally:
            pool.shutdown(cancel_futures=True)


def _file(folder: Path, seed: int) -> Path:
    return folder / f"seed{seed}.json"


def _key(recipe: TheoryRecipe, version: str) -> str:
    """Of everything that a seed's points depend on."""
    settings = recipe.model_dump(mode="json", exclude={"name", "description", "seeds"})
    return hashlib.sha256(json.dumps([version, settings], sort_keys=True).encode()).hexdigest()


def _kept(file: Path, key: str) -> SeedResult | None:
    """What a file holds; None where there is none, or it was measured with other settings or other code."""
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    if record.get("key") != key:
        return None
    points = tuple(Point(**point) for point in record["points"])
    return SeedResult(seed=record["seed"], points=points, seconds=record["seconds"], cpu_seconds=record["cpu_seconds"])


def _keep(file: Path, key: str, result: SeedResult) -> None:
    write_whole(file, json.dumps({"key": key, **asdict(result)}))
