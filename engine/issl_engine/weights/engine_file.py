"""Safetensors files that this engine wrote: their metadata name the encoder.

Metadata (text): ``encoder`` (its settings, JSON), ``image_size`` (pixels), ``preprocessing`` (JSON), and where it was
pretrained here ``recipe`` (JSON), ``seed``, ``step``, ``epoch`` and ``network`` (student or teacher).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.probing.config import Network
from issl_engine.recipe.check import first_sentence
from issl_engine.recipe.schema import AnyEncoder, Recipe
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.choose_layout import listed
from issl_engine.weights.weights_file import WeightsError, WeightsFile

FILE_NAME = "model.safetensors"
"""The weights in a folder that 'issl-engine export --format safetensors' makes."""


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """The content of the metadata."""

    config: EncoderConfig
    image_size: int
    preprocessing: Preprocessing
    recipe: Recipe | None
    seed: int | None
    network: Network


def is_engine_file(file: WeightsFile) -> bool:
    return "encoder" in file.metadata and ("image_size" in file.metadata or "recipe" in file.metadata)


def read_metadata(file: WeightsFile) -> EngineFile:
    """Raises WeightsError where they cannot be read."""
    metadata = file.metadata
    try:
        recipe = Recipe.model_validate(json.loads(metadata["recipe"])) if "recipe" in metadata else None
        config = TypeAdapter(AnyEncoder).validate_python(json.loads(metadata["encoder"]))
        if "preprocessing" in metadata:
            images = Preprocessing.from_json(json.loads(metadata["preprocessing"]))
        else:
            assert recipe is not None, "is_engine_file saw a recipe"
            images = recipe.preprocessing
        size = int(metadata["image_size"]) if "image_size" in metadata else _size_of(recipe)
        seed = int(metadata["seed"]) if "seed" in metadata else None
        network: Network = TypeAdapter(Network).validate_python(metadata.get("network", "student"))
    except ValidationError as error:
        raise _unreadable(file, first_sentence(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(file, str(error)) from error
    return EngineFile(config=config, image_size=size, preprocessing=images, recipe=recipe, seed=seed, network=network)


def _unreadable(file: WeightsFile, reason: str) -> WeightsError:
    return WeightsError(
        f"{file.path}: the metadata of the file cannot be read ({reason}); another version may have written it: "
        "export it again"
    )


def _size_of(recipe: Recipe | None) -> int:
    assert recipe is not None, "is_engine_file saw a recipe"
    return recipe.views.largest_size


def build_engine_encoder(file: WeightsFile, record: EngineFile) -> Encoder:
    """The encoder, from names of its own or behind ``encoder.``. Raises WeightsError for what does not fit."""
    try:
        encoder = record.config.build(image_size=record.image_size)
    except Mistake as error:
        raise WeightsError(f"{file.path}: the encoder that the file names cannot be built: {error}") from error
    tensors = _encoder_tensors(file.tensors)
    wanted = encoder.state_dict()
    missing, left_over = [name for name in wanted if name not in tensors], [n for n in tensors if n not in wanted]
    different = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    if missing or left_over or different:
        raise WeightsError(
            f"{file.path}: by its metadata the file holds a {record.config.name}, but of its tensors "
            f"{listed(missing) or 'none'} are missing, {listed(left_over) or 'none'} left over, and "
            f"{listed(different) or 'none'} of another shape; the file was changed"
        )
    encoder.load_state_dict(tensors)
    return encoder


def _encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a file that may hold a whole learner ('issl-engine checkpoint consolidate')."""
    if not any(name.startswith("objective.") for name in tensors):
        return dict(tensors)
    return {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}


def engine_file_in(folder: Path) -> Path | None:
    """The weights of a folder that was exported, or None for any other folder."""
    path = folder / FILE_NAME
    return path if path.is_file() else None
