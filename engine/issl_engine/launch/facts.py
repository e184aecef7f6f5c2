"""What a rank knows of itself before training: versions, recipe, data, GPU.

A mistake in the data is gathered with the rest, so that all ranks name it; only a defect is raised.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

import issl_engine
from issl_engine.environment import dali_version, version
from issl_engine.launch.rank_environment import host_name
from issl_engine.mistakes import is_mistake, sentence_of
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet

NUM_SAMPLED_NAMES = 256
NUM_SAMPLED_PIXELS = 16


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The images that this rank sees. ``digest`` covers labels and sizes of all, names or pixels of some."""

    num_images: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """``uuid`` is another for each GPU of a host; ``taken_by_others_bytes`` is neither free nor this process's."""

    name: str
    uuid: str
    total_bytes: int
    taken_by_others_bytes: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What all ranks compare. ``data`` is None where ``data_error`` says why it cannot be read."""

    rank: int
    host: str
    device: str
    versions: Mapping[str, str]
    recipe_digest: str
    data: DataFacts | None
    data_error: str | None
    gpu: GpuFacts | None


def collect_facts(recipes: Mapping[str, Recipe], ranks: Ranks, load: Callable[[Recipe], Dataset]) -> Facts:
    """This rank's. ``load`` reads the source of the first arm."""
    data, data_error = None, None
    try:
        data = data_facts(load(next(iter(recipes.values()))))
    except Exception as error:
        if not is_mistake(error):
            raise
        data_error = sentence_of(error)
    return Facts(
        rank=ranks.rank,
        host=host_name(),
        device=str(ranks.device),
        versions=software_versions(),
        recipe_digest=recipe_digest(recipes),
        data=data,
        data_error=data_error,
        gpu=_gpu_facts(ranks.device),
    )


def software_versions() -> dict[str, str]:
    """Of what must be the same on all ranks."""
    return {
        "issl-engine": issl_engine.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "DeepSpeed": version("deepspeed") or "none",
        "DALI": dali_version() or "none",
    }


def recipe_digest(recipes: Mapping[str, Recipe]) -> str:
    """SHA-256 of all arms' keys and values."""
    text = "\n".join(f"{arm} {recipe.model_dump_json()}" for arm, recipe in recipes.items())
    return hashlib.sha256(text.encode()).hexdigest()


def data_facts(dataset: Dataset) -> DataFacts:
    """Number and digest of the images that pretraining sees."""
    images = dataset.pretraining_images
    digest = hashlib.sha256(images.labels.tobytes())
    digest.update(images.sizes_HW.tobytes())
    count = NUM_SAMPLED_NAMES if images.encoded else NUM_SAMPLED_PIXELS
    for index in np.unique(np.linspace(0, len(images) - 1, num=min(count, len(images)), dtype=np.int64)).tolist():
        digest.update(_identity(images, index))
    return DataFacts(num_images=len(images), digest=digest.hexdigest())


def _identity(images: ImageSet, index: int) -> bytes:
    """A name below its class's folder, since hosts may mount the data at different places; pixels as they are."""
    if not images.encoded:
        return images.stored_bytes(index)
    return "/".join(images.describe(index).split(os.sep)[-2:]).encode()


def _gpu_facts(device: torch.device) -> GpuFacts | None:
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    properties = torch.cuda.get_device_properties(device)
    return GpuFacts(
        name=properties.name,
        uuid=str(getattr(properties, "uuid", device)),
        total_bytes=total,
        taken_by_others_bytes=total - free - torch.cuda.memory_reserved(device),
    )
