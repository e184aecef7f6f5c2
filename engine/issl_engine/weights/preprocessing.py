"""How images must be prepared for an encoder: as in its pretraining, wherever it is used."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from issl_engine.recipe.schema import Recipe

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Shorter side to ``resize`` pixels, centre crop of ``crop``, then (pixel in 0 to 1 - mean) / std per channel."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    resize: int
    crop: int
    mean: Triple
    std: Triple
    interpolation: Literal["bilinear", "bicubic"]

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with this in place of its own evaluation.resize and crop, views.mean, std and interpolation."""
        evaluation = recipe.evaluation.model_copy(update={"resize": self.resize, "crop": self.crop})
        views = {"mean": self.mean, "std": self.std, "interpolation": self.interpolation}
        return recipe.model_copy(update={"evaluation": evaluation, "views": recipe.views.model_copy(update=views)})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        numbers = [", ".join(f"{value:g}" for value in triple) for triple in (self.mean, self.std)]
        return (
            f"shorter side {self.resize} px ({self.interpolation}), centre crop {self.crop} px, "
            f"mean {numbers[0]}, std {numbers[1]}"
        )


IMAGENET = Preprocessing(
    resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear"
)
"""torchvision's, which most of the field shares."""


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """The preprocessing of a recipe's probes."""
    views, evaluation = recipe.views, recipe.evaluation
    return Preprocessing(
        resize=evaluation.resize,
        crop=evaluation.crop,
        mean=views.mean,
        std=views.std,
        interpolation=views.interpolation,
    )


_CHECKED = TypeAdapter(Preprocessing)


def preprocessing_from_json(record: dict[str, Any]) -> Preprocessing:
    """The inverse of ``as_json``. Raises pydantic's ValidationError for other content."""
    return _CHECKED.validate_python(record)
