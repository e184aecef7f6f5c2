"""How an image becomes an encoder's input when it is probed: resized, cut at the centre, normalised."""

from dataclasses import asdict, dataclass
from typing import Any

from issl_engine.probing.features.extract import RAW_PIXELS_SIDE
from issl_engine.views.corruptions import Corruption

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """``resize``: the shorter side, in pixels; ``crop``: side of the centre crop, in pixels; ``mean``, ``std``: of the
    channels, with pixels as 0 to 1; ``corruption``: of the crop, before it is normalised."""

    resize: int
    crop: int
    mean: Triple
    std: Triple
    interpolation: str
    corruption: Corruption | None = None

    def record(self) -> dict[str, Any]:
        """All that the pixels depend on, for JSON."""
        return asdict(self)

    def describe(self, *, raw_pixels: bool) -> str:
        """In words; ``raw_pixels``: there is no encoder."""
        text = (
            f"shorter side {self.resize} px ({self.interpolation}), centre crop {self.crop} px, "
            f"normalised with mean {_listed(self.mean)} and std {_listed(self.std)}"
        )
        if raw_pixels:
            text += f", raw pixels averaged down to {min(self.crop, RAW_PIXELS_SIDE)} px a side"
        if self.corruption is not None:
            text += f"; judged under {self.corruption.describe()}"
        return text


def _listed(values: tuple[float, ...]) -> str:
    """One number where all channels share it."""
    shown = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:g}" for value in shown)
