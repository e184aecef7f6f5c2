"""How an image becomes an encoder's input when it is not augmented: resized, cut at the centre, normalised.

One rule for probes, diagnostics, feature maps, public weights and exports.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Shorter side to ``resize`` pixels (antialiased), centre crop of ``crop`` pixels, then (pixel in 0 to 1 - mean) /
    std per channel."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    resize: int
    crop: int
    mean: Triple
    std: Triple
    interpolation: Literal["bilinear", "bicubic"]

    def as_json(self) -> dict[str, Any]:
        """All that the pixels depend on."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Preprocessing":
        """The inverse of ``as_json``. Raises pydantic's ValidationError for other content."""
        return TypeAdapter(cls).validate_python(record)

    def describe(self) -> str:
        """In words."""
        return (
            f"shorter side {self.resize} px ({self.interpolation}), centre crop {self.crop} px, "
            f"normalised with mean {_listed(self.mean)} and std {_listed(self.std)}"
        )


IMAGENET = Preprocessing(
    resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear"
)
"""torchvision's, which most of the field shares."""


def _listed(values: Triple) -> str:
    """One number where all channels share it."""
    shown = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:g}" for value in shown)
