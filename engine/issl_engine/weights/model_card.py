"""README.md beside exported weights: what they are, how they were made, and what they are worth."""

import json
from pathlib import Path
from typing import Any

import torch

import issl_engine
from issl_engine.environment import git_commit, version
from issl_engine.layout import CHECKPOINTS, PROBES
from issl_engine.probing.judging.results import results_from_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.weights_file import WeightsError

NO_LICENSE = "unknown"
"""Licence of weights for which none was named."""


def model_card(opened: OpenedEncoder, *, license_name: str) -> str:
    """Markdown with the front matter that model hubs read."""
    parts = [
        f"---\nlicense: {license_name}\ntags: [image-feature-extraction, self-supervised-learning]\n---",
        f"# {_title(opened)}",
        _table(_facts(opened, license_name)),
        "## Use",
        _usage(),
        *_pretraining(opened),
        *_probes(opened),
        "## Made with",
        _table(_versions(opened)),
    ]
    return "\n\n".join(parts) + "\n"


def _title(opened: OpenedEncoder) -> str:
    if opened.recipe is None:
        return f"{opened.config.name} from {_source(opened)}"
    return f"{opened.config.name} pretrained with {opened.recipe.objective.name}"


def _source(opened: OpenedEncoder) -> str:
    return Path(opened.name).name or opened.name


def _facts(opened: OpenedEncoder, license_name: str) -> dict[str, str]:
    parameters = sum(parameter.numel() for parameter in opened.encoder.parameters())
    return {
        "architecture": f"{opened.config.name}, {parameters:,} parameters",
        "representation": f"{opened.encoder.dim} dimensions",
        "images": opened.preprocessing.describe(),
        "from": f"{_source(opened)} (layout {opened.layout})",
        "SHA-256 of the weights": f"`{opened.digest}`",
        "licence": "unknown: name it with --license" if license_name == NO_LICENSE else license_name,
    }


def _usage() -> str:
    return (
        "With issl-engine: `issl-engine probe FOLDER --recipe RECIPE`, or in Python\n\n"
        "```python\n"
        "from issl_engine.weights.open_encoder import open_encoder\n\n"
        'opened = open_encoder("FOLDER")  # opened.encoder, opened.preprocessing\n'
        "```"
    )


def _pretraining(opened: OpenedEncoder) -> list[str]:
    recipe, manifest = opened.recipe, opened.manifest
    if recipe is None:
        return []
    facts = {
        "recipe": recipe.name,
        "objective": _settings(recipe.objective.model_dump(mode="json")),
        **({"network": opened.network} if recipe.objective.uses_ema_teacher else {}),
        "data": _settings(recipe.source.model_dump(mode="json")),
        "views": ", ".join(f"{group.count} x {group.size} px" for group in recipe.views.groups),
        "optimiser": _settings(recipe.optimizer.model_dump(mode="json")),
        "images per step": str(recipe.training.global_batch_size),
        "epochs": f"{recipe.training.epochs:g}",
        "seed": str(opened.seed),
    }
    if manifest is not None:
        facts["epochs"] = f"{manifest.epoch:g} of {recipe.training.epochs:g} (step {manifest.step})"
        facts["ranks"] = str(manifest.world_size)
        facts["trained for"] = f"{manifest.seconds / 60:.1f} minutes"
    return ["## Pretraining", _table(facts)]


def _settings(record: dict[str, Any]) -> str:
    name = record.pop("name")
    shown = ", ".join(f"{key} {value}" for key, value in record.items() if value is not None and key != "folder")
    return f"{name} ({shown})" if shown else str(name)


def _probes(opened: OpenedEncoder) -> list[str]:
    results = probe_results_of(opened)
    if not results:
        return ["## Probes", "None were made of this checkpoint." if opened.manifest else "None are known."]
    lines = [
        "| probe | setting | metric | value | held-out | split | fitted on | seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        interval = f" ({result.interval[0]:.2f} to {result.interval[1]:.2f})" if result.interval else ""
        lines.append(
            f"| {result.protocol or result.probe} | {result.setting or 'plain'} | {result.metric} | "
            f"{result.value:.2f}{interval} | {_held_out(result)} | {result.split} ({result.num_split_images} images) | "
            f"{result.num_train_images} images | {result.seed} |"
        )
    return ["## Probes", "\n".join(lines), f"Images: {results[0].preprocessing}."]


def _held_out(result: ProbeResult) -> str:
    return "–" if result.held_out_value is None else f"{result.held_out_value:.2f}"


def probe_results_of(opened: OpenedEncoder) -> list[ProbeResult]:
    """The results of this network in the run's folder, for its last checkpoint. Empty for an earlier one, or where
    there are none.

    Raises WeightsError for a damaged file.
    """
    if opened.manifest is None or not opened.manifest.finished or opened.place is None:
        return []
    if opened.place.parent.name != CHECKPOINTS:
        return []
    path = opened.place.parent.parent / PROBES
    if not path.is_file():
        return []
    try:
        results = results_from_json(json.loads(path.read_text(encoding="utf-8")))
        return [result for result in results if result == result.of_network(opened.network)]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise WeightsError(
            f"{path}: these are no probe results ({type(error).__name__}: {error}); delete the file, and run the "
            "recipe again, which makes them anew"
        ) from error


def _versions(opened: OpenedEncoder) -> dict[str, str]:
    rows: dict[str, str] = {}
    if opened.manifest is not None:
        rows = {f"pretrained with {name}": number for name, number in opened.manifest.versions.items()}
        rows["checkpoint of"] = opened.manifest.created
    return {
        "exported with issl-engine": f"{issl_engine.__version__} ({git_commit() or 'no checkout'})",
        "exported with torch": torch.__version__,
        "exported with safetensors": version("safetensors") or "unknown",
        **rows,
    }


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
