"""An encoder by its name: what probes, exports and diagnostics start from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.encoder import load_encoder


@dataclass(frozen=True, kw_only=True)
class OpenedEncoder:
    """A frozen encoder on the CPU, and what is known of it."""

    encoder: nn.Module
    """Images [N, 3, h, w], normalised → representations [N, dim]; has ``dim``."""
    name: str
    """How tables call it."""
    digest: str
    """SHA-256 of its parameters and buffers, in hexadecimal: equal weights have equal digests."""
    recipe: Recipe | None
    """What it was pretrained with; None for weights that are not this engine's checkpoint."""
    seed: int | None
    """The seed it was pretrained with, where there is a recipe."""


def open_encoder(reference: str) -> OpenedEncoder:
    """The encoder of a checkpoint folder (or of a run's arm folder: its newest).

    Raises CheckpointError.
    """
    encoder, recipe, manifest = load_encoder(Path(reference))
    return OpenedEncoder(
        encoder=encoder, name=reference, digest=weights_digest(encoder), recipe=recipe, seed=manifest.seed
    )


def weights_digest(encoder: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
