"""The base of export formats. A format is one way in which other libraries load encoders.

A format is one file of this folder, named like it, with an ``ExportFormat`` subclass; ``issl-engine export`` offers it
by its being there.

Letters: N images, C channels, H height, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from issl_engine.config import Config
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.weights_file import WeightsError

BATCH = torch.export.Dim("batch", min=1)
"""The batch size, which formats that trace the encoder leave open."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files that were written."""

    files: tuple[Path, ...]
    usage: str
    """Lines of Python that load it where this engine is not installed."""


class ExportFormat(Config):
    """Base of every format: its ``name`` is a Literal."""

    name: str

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        """Writes the encoder whole or not at all. Raises WeightsError where the format cannot hold it, OSError."""
        raise AssertionError(f"{type(self).__name__} must implement write")


def example_images(opened: OpenedEncoder, count: int = 2) -> Tensor:
    """What an encoder is traced with, float32 [count, 3, crop, crop]: normal, as normalised images are about.

    The count is two at least, since a batch of one would be taken for fixed.
    """
    crop = opened.preprocessing.crop
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, crop, crop, generator=generator)


@contextmanager
def untraceable_reported(opened: OpenedEncoder, tracer: str) -> Iterator[None]:
    """Encloses the call of a tracer, which cannot follow every encoder of timm. Raises WeightsError then."""
    try:
        yield
    except RuntimeError as error:  # what torch's tracers raise derives from it
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{opened.name}: {tracer} cannot trace this {opened.config.name} ({reason}); take --format safetensors"
        ) from error
