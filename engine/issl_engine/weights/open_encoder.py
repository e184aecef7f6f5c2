"""An encoder by its name: what probes, exports and diagnostics start from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from issl_engine.models.encoders.base import EncoderConfig
from issl_engine.probing.config import Network
from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.encoder import load_encoder
from issl_engine.training.checkpoints.find import resolve_checkpoint
from issl_engine.training.checkpoints.layout import ENCODER
from issl_engine.training.checkpoints.manifest import Manifest
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.build_encoder import build_encoder, identify
from issl_engine.weights.engine_file import build_engine_encoder, engine_file_in, is_engine_file, read_metadata
from issl_engine.weights.reference import Located, locate
from issl_engine.weights.timm_weights import TIMM, open_timm, preprocessing_beside
from issl_engine.weights.weights_file import WeightsError, read_weights


@dataclass(frozen=True, kw_only=True)
class OpenedEncoder:
    """A frozen encoder on the CPU, and what is known of it."""

    encoder: nn.Module
    """Images [N, 3, h, w], normalised → representations [N, dim]; has ``dim``."""
    name: str
    """Its name in tables."""
    digest: str
    """SHA-256 of its parameters and buffers, in hexadecimal: equal weights have equal digests."""
    recipe: Recipe | None
    """What it was pretrained with; None for weights that are not this engine's checkpoint."""
    seed: int | None
    """The seed it was pretrained with, where there is a recipe."""
    config: EncoderConfig
    """The settings that build such an encoder."""
    image_size: int
    """Side of the images, in pixels, that it is built for."""
    preprocessing: Preprocessing
    """How images are prepared for it; ``recipe.prepared_as(preprocessing)`` makes another recipe's probes do so."""
    layout: str
    """How its names were read: checkpoint, engine, timm, or a layout of ``weights/layouts``."""
    network: Network = "student"
    """teacher for an EMA teacher's; student for the encoder that took gradients, and for weights that say nothing."""
    place: Path | None = None
    """The checkpoint's folder or the file; None where there is none."""
    manifest: Manifest | None = None
    """The manifest of a checkpoint; None for other weights."""


def open_encoder(reference: str, network: Network | None = None) -> OpenedEncoder:
    """The encoder that a user names. ``reference`` is one of four:

    - the folder of a checkpoint, of a run's arm and seed (its newest checkpoint is taken) or of an exported encoder;
    - a file of weights (.pth, .pt, .pth.tar, .ckpt, .torch, .safetensors), with options behind a ``?``
      (``weights/reference.py``);
    - a published name (``issl-engine list weights``);
    - ``timm:NAME``: timm's own weights of that model.

    ``network`` teacher takes the EMA teacher of a checkpoint; None takes the student, or what a file holds.

    Raises CheckpointError or WeightsError, both Mistakes, with one sentence.
    """
    opened = _open(reference, network or "student")
    if network not in (None, opened.network):
        raise WeightsError(
            f"{reference}: this is one network, {_ORIGIN[opened.network]}, and not the {network} that was asked for; "
            "give a checkpoint, which holds both where its objective has an EMA teacher, or leave the network out"
        )
    return opened


_ORIGIN: dict[Network, str] = {
    "student": "taken as the one that was trained", "teacher": "exported as the teacher",
}  # fmt: skip


def _open(reference: str, network: Network) -> OpenedEncoder:
    """As ``open_encoder``; of what is no checkpoint, the network that it holds."""
    if reference.startswith(TIMM):
        model = open_timm(reference.removeprefix(TIMM))
        return OpenedEncoder(
            encoder=model.encoder, name=reference, digest=weights_digest(model.encoder), recipe=None, seed=None,
            config=model.config, image_size=model.image_size, preprocessing=model.preprocessing, layout="timm",
        )  # fmt: skip
    found = locate(reference)
    if not found.path.is_dir():
        return _open_file(found, found.path, name=reference)
    exported = engine_file_in(found.path)
    if exported is not None:
        return _open_file(found, exported, name=reference)
    return _open_checkpoint(found.path, reference, network)


def _open_checkpoint(path: Path, name: str, network: Network) -> OpenedEncoder:
    checkpoint = resolve_checkpoint(path, only={ENCODER})
    encoder, recipe, manifest = load_encoder(checkpoint, network)
    return OpenedEncoder(
        encoder=encoder, name=name, digest=weights_digest(encoder), recipe=recipe, seed=manifest.seed,
        config=recipe.encoder, image_size=recipe.views.largest_size, preprocessing=recipe.preprocessing,
        layout="checkpoint", network=network, place=checkpoint, manifest=manifest,
    )  # fmt: skip


def _open_file(located: Located, path: Path, *, name: str) -> OpenedEncoder:
    file = read_weights(path)
    if is_engine_file(file):
        record = read_metadata(file)
        encoder = build_engine_encoder(file, record)
        return OpenedEncoder(
            encoder=encoder, name=name, digest=weights_digest(encoder), recipe=record.recipe, seed=record.seed,
            config=record.config, image_size=record.image_size, preprocessing=record.preprocessing, layout="engine",
            network=record.network, place=path,
        )  # fmt: skip
    found = identify(file, located.options)
    encoder = build_encoder(file, found)
    images = located.preprocessing or preprocessing_beside(path)
    if located.options.size is not None:
        images = None  # what the user said is in what was found
    return OpenedEncoder(
        encoder=encoder, name=name, digest=weights_digest(encoder), recipe=None, seed=None, config=found.config,
        image_size=found.image_size, preprocessing=images or found.preprocessing,
        layout=found.reading.layout.name, place=path,
    )  # fmt: skip


def weights_digest(encoder: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
