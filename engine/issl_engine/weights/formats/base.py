"""What an export format is: one way in which others load encoders.

A format is one file of this folder, named like it, with an ``ExportFormat`` subclass; ``issl-engine export`` offers it
by its being there.
"""

from dataclasses import dataclass
from pathlib import Path

from issl_engine.config import Config
from issl_engine.weights.open_encoder import OpenedEncoder


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    files: tuple[Path, ...]
    usage: str
    """Lines of Python that load it where this engine is not installed."""


class ExportFormat(Config):
    """Base of every format: its ``name`` is a Literal."""

    name: str

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        """Writes the encoder whole or not at all. Raises WeightsError where the format cannot hold it, OSError."""
        raise AssertionError(f"{type(self).__name__} must implement write")
