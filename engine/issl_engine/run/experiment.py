"""A whole recipe: every arm and seed pretrained and probed, the controls beside them, then the report.

RUN/recipe.yaml  environment.json  run.json  results.csv  report.html  log.txt
RUN/<arm>/seed<k>/resolved.yaml  metrics.jsonl  probes.json  diagnostics.json  feature_map.npz  views.png  checkpoints/
RUN/controls/seed<k>/untrained.json  untrained_diagnostics.json  untrained.feature_map.npz
                     raw_pixels.json  raw_pixels.feature_map.npz
RUN/thumbnails-<source>.webp         the images of the feature maps
RUN/logs/rank<k>.log                 where a supervisor started the ranks
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from issl_engine.diagnosis.diagnose import diagnose, diagnose_learner
from issl_engine.diagnosis.measure import Diagnosis, as_json
from issl_engine.environment import collect_environment
from issl_engine.launch.folder_lock import Resume, locked_folder
from issl_engine.launch.preflight import check_before_training
from issl_engine.loading.contact_sheet import write_contact_sheet
from issl_engine.log_file import LogFile
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder
from issl_engine.probing.judging.evaluate import evaluate
from issl_engine.probing.judging.results import results_from_json, results_to_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.ranks import Ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.recipe.show import render
from issl_engine.report.feature_map import digest_of
from issl_engine.report.make_maps import map_encoder, needs_map
from issl_engine.report.write import write_report
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_encoder
from issl_engine.training.checkpoints.encoder import load_encoder
from issl_engine.training.checkpoints.learner import load_learner
from issl_engine.training.checkpoints.manifest import (
    CheckpointError,
    OtherFormatError,
    checkpoint_folders,
    read_manifest,
)
from issl_engine.training.lines import OnLog
from issl_engine.training.plan import make_plan
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.watchdog import OnHung
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

OnArm = Callable[[str, int], OnLog | None]
"""Called when an arm (its name, the seed) starts; gives the callback for its logged records."""

PROBING_KEYS = {"evaluation", "probes", "controls"}
FREE_KEYS = {"name", "description", "seeds", "checkpoint", "data", "deepspeed", "diagnostics"} | PROBING_KEYS
"""Keys that may change between two runs in one folder: they do not touch the weights, or (deepspeed) their last bits
alone."""
FREE_TRAINING_KEYS = {"on_non_finite", "max_skipped_steps", "watchdog_seconds", "log_every_steps"}
"""Keys of ``training`` that may change: after a NaN or the watchdog has stopped a run, it may go on otherwise."""
DIAGNOSIS_KEYS = {"diagnostics", "evaluation", "data"}
"""Keys that say how the representation is measured after training."""
PNG_END = b"IEND\xaeB`\x82"
"""Name and checksum of the chunk that ends a PNG file."""


def run_recipe(
    file: RecipeFile,
    out: Path,
    *,
    ranks: Ranks,
    resume: Resume = "auto",
    on_arm: OnArm | None = None,
    on_hung: OnHung | None = None,
    command: str = "",
) -> Path:
    """Runs (or goes on with) a recipe in ``out``; returns that folder. ``on_hung`` is told why a run that has stopped
    moving ends its process. Raises ValueError for a user's mistake."""
    with locked_folder(out, ranks, resume), _log_file(out, ranks):
        recipes = file.arms
        first = next(iter(recipes.values()))
        _check_folder(out, recipes)
        check_before_training(recipes, out, ranks, load_dataset)
        record = _start_record(file, first)
        if ranks.is_first:
            write_whole(out / "recipe.yaml", file.text)
            _write_json(out / "environment.json", collect_environment() | {"command": command})
            _write_json(out / "run.json", record)
        try:
            for seed in first.seeds:
                for arm, recipe in recipes.items():
                    on_log = on_arm(arm, seed) if on_arm else None
                    run_arm(recipe, arm_folder(out, arm, seed), seed, ranks, on_log, on_hung)
                if first.controls:
                    _run_controls(first, out / "controls" / f"seed{seed}", seed, ranks)
        except BaseException:
            if ranks.is_first:
                _note_interruption(out, record)
            raise
        if ranks.is_first:
            _write_json(out / "run.json", record | {"status": "finished", "finished": _now()})
            write_report(out)
        return out


def arm_folder(out: Path, arm: str, seed: int) -> Path:
    """Where one arm's one seed lies."""
    return out / arm / f"seed{seed}"


def run_arm(
    recipe: Recipe, folder: Path, seed: int, ranks: Ranks, on_log: OnLog | None, on_hung: OnHung | None = None
) -> None:
    """Pretrains and probes one encoder in ``folder``; does nothing that is done already."""
    dataset = load_dataset(recipe)
    if ranks.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        plan = make_plan(recipe, dataset, ranks)
        if not _has_probes_of(folder, recipe):
            (folder / "probes.json").unlink(missing_ok=True)  # before resolved.yaml says that they are this recipe's
        write_whole(folder / "resolved.yaml", render(recipe, derived=asdict(plan)))
        if not _is_whole_png(folder / "views.png"):
            write_contact_sheet(folder / "views.png", dataset.pretraining_images, recipe.views, num_images=4, seed=seed)
    ranks.barrier()
    checkpoint = pretrain(recipe, dataset, ranks, folder=folder, seed=seed, on_log=on_log, on_hung=on_hung)
    if ranks.is_first and recipe.probes and not (folder / "probes.json").exists():
        results = probe_checkpoint(checkpoint, recipe, dataset, seed=seed, device=ranks.device)
        _write_json(folder / "probes.json", results_to_json(results))
    if ranks.is_first:
        _write_diagnosis(
            folder / "diagnostics.json", recipe, lambda: diagnose_checkpoint(checkpoint, recipe, dataset, ranks)
        )
    if ranks.is_first and recipe.probes:
        place, run = folder / "feature_map.npz", folder.parent.parent
        made_of = digest_of(_without_free_keys(recipe.model_dump(mode="json")), _part(recipe, {"evaluation"}))
        if needs_map(place, run, recipe, made_of=made_of):
            encoder = load_encoder(checkpoint)[0].to(ranks.device)
            map_encoder(place, run, recipe, made_of=made_of, encoder=encoder, dataset=dataset, device=ranks.device)
    ranks.barrier()


def load_dataset(recipe: Recipe) -> Dataset:
    """The recipe's source; read once for all arms and seeds that share it."""
    key = recipe.source.model_dump_json()
    if key not in _datasets:
        _datasets.clear()
        _datasets[key] = recipe.source.load()
    return _datasets[key]


_datasets: dict[str, Dataset] = {}


def probe_checkpoint(
    checkpoint: Path, recipe: Recipe, dataset: Dataset, *, seed: int, device: torch.device
) -> list[ProbeResult]:
    """The recipe's probes on the frozen encoder of a checkpoint."""
    encoder, _, _ = load_encoder(checkpoint)
    return probe_encoder(encoder.to(device), recipe, dataset, seed=seed, device=device)


def probe_encoder(
    encoder: torch.nn.Module | None, recipe: Recipe, dataset: Dataset, *, seed: int, device: torch.device
) -> list[ProbeResult]:
    """The recipe's probes on any encoder; None probes the raw pixels."""
    return evaluate(
        encoder=encoder,
        dataset=dataset,
        evaluation=recipe.evaluation,
        probes=recipe.probes,
        mean=recipe.views.mean,
        std=recipe.views.std,
        interpolation=recipe.views.interpolation,
        seed=seed,
        device=device,
        num_threads=recipe.data.decode_threads,
    )


def diagnose_checkpoint(
    checkpoint: Path, recipe: Recipe, dataset: Dataset, ranks: Ranks, *, seed: int | None = None
) -> Diagnosis:
    """Measures of a checkpoint's encoder and objective, on the images that ``recipe`` says; ``dataset`` is the one it
    was pretrained on, and the seed its own unless another is given."""
    learner, trained_with = load_learner(checkpoint, dataset, ranks)
    measured_with = trained_with.model_copy(update={key: getattr(recipe, key) for key in DIAGNOSIS_KEYS})
    own_seed = read_manifest(checkpoint).seed
    return diagnose_learner(learner, measured_with, dataset, ranks, seed=own_seed if seed is None else seed)


def _write_diagnosis(path: Path, recipe: Recipe, diagnosis: Callable[[], Diagnosis]) -> None:
    """Unless it is there already, made with the same keys; removes it where the recipe wants none."""
    if recipe.diagnostics.after_images is None:
        path.unlink(missing_ok=True)
        return
    after = recipe.diagnostics.model_dump(include={"after_images", "after_views"})
    key = _part(recipe, {"encoder", "source", "views", "evaluation"}) | {"diagnostics": after}
    earlier = _read_json(path)
    if not isinstance(earlier, dict) or earlier.get("measured_with") != key:
        _log.info("%s: measuring the representation", path.parent)
        _write_json(path, as_json(diagnosis()) | {"measured_with": key})


def _run_controls(recipe: Recipe, folder: Path, seed: int, ranks: Ranks) -> None:
    if not ranks.is_first:
        return
    dataset = load_dataset(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    untrained: Encoder = build_encoder(recipe, seed).to(ranks.device)
    key = _part(recipe, PROBING_KEYS | {"encoder", "source"})
    for name, encoder in (("untrained", untrained), ("raw_pixels", None)) if recipe.probes else ():
        path = folder / f"{name}.json"
        if _read_results(path) is None or _read_json(folder / f"{name}.key.json") != key:
            _log.info("seed %d: probing the control '%s'", seed, name)
            _write_json(path, results_to_json(probe_encoder(encoder, recipe, dataset, seed=seed, device=ranks.device)))
            _write_json(folder / f"{name}.key.json", key)
        place, run, made_of = folder / f"{name}.feature_map.npz", folder.parent.parent, digest_of(key)
        if needs_map(place, run, recipe, made_of=made_of):
            map_encoder(place, run, recipe, made_of=made_of, encoder=encoder, dataset=dataset, device=ranks.device)
    _write_diagnosis(
        folder / "untrained_diagnostics.json", recipe,
        lambda: diagnose(untrained, recipe, dataset, seed=seed, device=ranks.device),
    )  # fmt: skip


def _has_probes_of(folder: Path, recipe: Recipe) -> bool:
    """Whether the results there can be read and are those of the recipe's probes."""
    previous = _previous(folder)
    if previous is None or _part(previous, PROBING_KEYS) != _part(recipe, PROBING_KEYS):
        return False
    return _read_results(folder / "probes.json") is not None


def _read_results(path: Path) -> list[ProbeResult] | None:
    """None where there are none, or damaged ones."""
    content = _read_json(path)
    try:
        return None if content is None else results_from_json(content)
    except (TypeError, KeyError, AttributeError):
        _log.warning("%s: the file is damaged, and is made anew", path)
        return None


def _read_json(path: Path) -> Any:
    """None where there is no such file, or a damaged one."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        _log.warning("%s: the file is damaged, and is made anew", path)
        return None


def _is_whole_png(path: Path) -> bool:
    """Whether there is such a file, and it has a PNG's end."""
    return path.exists() and path.read_bytes().endswith(PNG_END)


def _start_record(file: RecipeFile, first: Recipe) -> dict[str, Any]:
    return {
        "recipe": first.name,
        "description": first.description,
        "arms": {arm: recipe.objective.name for arm, recipe in file.arms.items()},
        "seeds": list(first.seeds),
        "overrides": list(file.overrides),
        "status": "running",
        "started": _now(),
        "finished": None,
    }


@contextmanager
def _log_file(out: Path, ranks: Ranks) -> Iterator[None]:
    """What the first rank logs also goes to RUN/log.txt."""
    if not ranks.is_first:
        yield
        return
    handler = LogFile(out / "log.txt")
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()


def _check_folder(out: Path, recipes: dict[str, Recipe]) -> None:
    """Refuses to mix the weights of two recipes in one folder: the checkpoints there say what they were made with."""
    for arm, recipe in recipes.items():
        for seed in recipe.seeds:
            folder = arm_folder(out, arm, seed)
            earlier = _newest_recipe(folder / "checkpoints")
            difference = earlier and _first_difference(earlier, _without_free_keys(recipe.model_dump(mode="json")))
            if difference:
                raise Mistake(
                    f"{folder}: this folder holds a run of another recipe ({difference}); "
                    "choose another --out, or put the key back"
                )


def _newest_recipe(checkpoints: Path) -> dict[str, Any] | None:
    """What of the recipe must stay, as the newest checkpoint with a readable manifest says, or None without one.

    Raises CheckpointError for a checkpoint of another version.
    """
    for checkpoint in reversed(checkpoint_folders(checkpoints)):
        try:
            recipe = read_manifest(checkpoint).recipe
        except OtherFormatError:
            raise
        except CheckpointError:
            continue  # named, and the one before it tried, when training resumes
        return _without_free_keys(recipe)
    return None


def _without_free_keys(recipe: dict[str, Any]) -> dict[str, Any]:
    training = {key: value for key, value in recipe["training"].items() if key not in FREE_TRAINING_KEYS}
    return {key: value for key, value in recipe.items() if key not in FREE_KEYS} | {"training": training}


def _previous(folder: Path) -> Recipe | None:
    """The recipe of the run before, or None where there is none, or a damaged file."""
    path = folder / "resolved.yaml"
    if not path.exists():
        return None
    try:
        return next(iter(load_recipe(path).arms.values()))
    except ValueError:
        _log.warning("%s: the file is damaged or of another version, and is made anew", path)
        return None


def _part(recipe: Recipe, keys: set[str]) -> dict[str, Any]:
    return recipe.model_dump(mode="json", include=keys)


def _first_difference(before: Any, now: Any, path: str = "") -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            found = _first_difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if before == now else f"{path} is {json.dumps(before)} there and {json.dumps(now)} here"


def _note_interruption(out: Path, record: dict[str, Any]) -> None:
    """In run.json, if it can be written: what ended the run is more to the point than a full disk here."""
    try:
        _write_json(out / "run.json", record | {"status": "interrupted", "finished": _now()})
    except OSError as error:
        _log.warning("%s: that the run was interrupted could not be noted (%s)", error.filename, error.strerror)


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
